from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.base import NO_LABEL, Document, Split
from celltune.data_prep.sources.registry import open_source


def read(path: Path) -> list[Document]:
    source = open_source(DataConfig(source="imdb", path=path), cache_dir=path.parent)
    assert source.classes == ("neg", "pos")
    return list(source.documents())


def test_folder_and_archive_give_the_same_rows(imdb_folder: Path, imdb_archive: Path) -> None:
    rows = read(imdb_folder)
    assert rows == read(imdb_archive)
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert len(rows) == 6
    assert sum(row.label for row in rows) == 3


def test_only_labelled_training_reviews_are_read(imdb_folder: Path) -> None:
    assert all(row.text.startswith("train ") for row in read(imdb_folder))


def test_the_digest_follows_the_training_reviews_alone(imdb_folder: Path) -> None:
    source = open_source(DataConfig(source="imdb", path=imdb_folder), cache_dir=imdb_folder)
    before = source.digest()
    (imdb_folder / "test" / "pos" / "0_9.txt").write_text("changed", "utf-8")
    assert source.digest() == before
    (imdb_folder / "train" / "pos" / "0_9.txt").write_text("changed", "utf-8")
    assert source.digest() != before


@pytest.mark.parametrize("label", ["neg", "pos"])
def test_a_folder_or_archive_without_a_class_is_refused(
    imdb_folder: Path, tmp_path: Path, label: str
) -> None:
    for file in (imdb_folder / "train" / label).iterdir():
        file.unlink()
    archive = tmp_path / "half.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(imdb_folder, "aclImdb")
    for path in (imdb_folder, archive):
        with pytest.raises(DataError, match=f"has no reviews in train/{label}; .*data.path"):
            read(path)


def test_an_empty_or_broken_review_is_named(imdb_folder: Path) -> None:
    review = imdb_folder / "train" / "pos" / "0_9.txt"
    review.write_text(" \n", "utf-8")
    with pytest.raises(DataError, match=r"train/pos/0_9\.txt: the review is empty"):
        read(imdb_folder)
    review.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"train/pos/0_9\.txt: byte 0xe9 at 3 isn't utf-8"):
        read(imdb_folder)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_an_archive_that_was_cut_short_is_refused(imdb_archive: Path, share: float) -> None:
    content = imdb_archive.read_bytes()
    imdb_archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz is damaged or cut short"):
        read(imdb_archive)


@pytest.mark.parametrize("content", [b"", b"not a gzip at all"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tar\.gz is damaged or cut short"):
        read(path)


def test_a_link_in_place_of_a_review_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        link = tarfile.TarInfo("aclImdb/train/pos/0_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    with pytest.raises(DataError, match=r"train/pos/0_9\.txt' isn't a plain file"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../aclImdb/train/pos/1_9.txt", "/aclImdb/train/pos/2_9.txt", "aclImdb/../x"]
)
def test_members_outside_the_tree_are_refused(
    imdb_archive: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "more.tar.gz"
    with tarfile.open(imdb_archive) as old, tarfile.open(path, "w:gz") as out:
        for member in old:
            out.addfile(member, old.extractfile(member) if member.isreg() else None)
        stray = tarfile.TarInfo(name)
        stray.size = 4
        out.addfile(stray, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="lies outside the archive's own tree"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S"])
def test_strange_members_are_refused_wherever_they_are(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "strange.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        strange = tarfile.TarInfo("aclImdb/somewhere")
        strange.type = kind
        out.addfile(strange)
    with pytest.raises(DataError, match="'aclImdb/somewhere' isn't a plain file"):
        read(path)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_gives_the_same(imdb_folder: Path, tmp_path: Path, form: int) -> None:
    path = tmp_path / "form.tar.gz"
    # Names of more than 100 letters take another way in each form.
    (imdb_folder / "train" / "pos" / f"{'x' * 90}_9.txt").write_text("train long name", "utf-8")
    with tarfile.open(path, "w:gz", format=form) as out:
        out.add(imdb_folder, "aclImdb")
    assert read(path) == read(imdb_folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, 40_000), value=st.integers(0, 255), form=st.sampled_from([0, 1, 2]))
def test_no_damage_raises_anything_but_a_data_error(
    imdb_folder: Path, tmp_path: Path, at: int, value: int, form: int
) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as out:
        out.add(imdb_folder, "aclImdb")
    content = bytearray(plain.getvalue())
    content[at % len(content)] = value
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(gzip.compress(content, 1))
    with contextlib.suppress(DataError):
        read(path)


def test_a_damaged_header_is_told(imdb_folder: Path, tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as out:
        out.add(imdb_folder, "aclImdb")
    content = bytearray(plain.getvalue())
    content[3] ^= 1
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(
        DataError, match=r"damaged or cut short .*header doesn't match its checksum"
    ):
        read(path)


@pytest.mark.parametrize("part", ["test", "unlabelled"])
def test_other_parts_come_when_they_are_asked_for(
    imdb_folder: Path, imdb_archive: Path, part: Split
) -> None:
    both = []
    for path in (imdb_folder, imdb_archive):
        source = open_source(DataConfig(source="imdb", path=path), cache_dir=path.parent)
        assert part in source.splits
        rows = list(source.documents([part]))
        assert {row.split for row in rows} == {part}
        assert list(source.documents(["train", part])) == [*source.documents(), *rows]
        both.append(rows)
    assert both[0] == both[1]
    if part == "test":
        assert all(row.text.startswith("test ") and row.label in (0, 1) for row in both[0])
    else:
        assert [(row.text, row.label) for row in both[0]] == [("nobody labelled this", NO_LABEL)]
