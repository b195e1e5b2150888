from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.base import NO_LABEL, Document, Split
from celltune.data_prep.sources.factory import open_source


def read(path: Path) -> list[Document]:
    source = open_source(DataConfig(source="imdb", path=path), cache_dir=path.parent)
    assert source.classes == ("neg", "pos")
    return list(source.documents())


def test_folder_and_archive_yield_equal_documents(imdb_folder: Path, imdb_archive: Path) -> None:
    documents = read(imdb_folder)
    assert documents == read(imdb_archive)
    assert [each.id for each in documents] == sorted(each.id for each in documents)
    assert len(documents) == 6
    assert sum(each.label for each in documents) == 3


def test_reads_only_labelled_training_reviews_by_default(imdb_folder: Path) -> None:
    assert all(each.text.startswith("train ") for each in read(imdb_folder))


def test_digest_depends_on_requested_split_only(imdb_folder: Path) -> None:
    source = open_source(DataConfig(source="imdb", path=imdb_folder), cache_dir=imdb_folder)
    before = source.digest()
    (imdb_folder / "test" / "pos" / "0_9.txt").write_text("changed", "utf-8")
    assert source.digest() == before
    (imdb_folder / "train" / "pos" / "0_9.txt").write_text("changed", "utf-8")
    assert source.digest() != before


@pytest.mark.parametrize("label", ["neg", "pos"])
def test_rejects_folder_or_archive_without_a_class(
    imdb_folder: Path, tmp_path: Path, label: str
) -> None:
    for file in (imdb_folder / "train" / label).iterdir():
        file.unlink()
    archive = tmp_path / "half.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(imdb_folder, "aclImdb")
    for path in (imdb_folder, archive):
        with pytest.raises(DataError, match=rf"has no reviews in train/{label}\. .*data\.path"):
            read(path)


def test_error_names_empty_or_undecodable_review(imdb_folder: Path) -> None:
    review = imdb_folder / "train" / "pos" / "0_9.txt"
    review.write_text(" \n", "utf-8")
    with pytest.raises(DataError, match=r"train/pos/0_9\.txt: the review is empty"):
        read(imdb_folder)
    review.write_bytes(b"caf\xe9")
    with pytest.raises(
        DataError, match=r"train/pos/0_9\.txt: byte 0xe9 at position 3 is not valid UTF-8"
    ):
        read(imdb_folder)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_rejects_truncated_archive(imdb_archive: Path, share: float) -> None:
    content = imdb_archive.read_bytes()
    imdb_archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz is damaged or truncated"):
        read(imdb_archive)


@pytest.mark.parametrize("content", [b"", b"not a gzip at all"])
def test_rejects_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tar\.gz is damaged or truncated"):
        read(path)


def test_rejects_link_instead_of_review(tmp_path: Path) -> None:
    path = tmp_path / "link.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        link = tarfile.TarInfo("aclImdb/train/pos/0_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    with pytest.raises(DataError, match=r"train/pos/0_9\.txt' is not a plain file"):
        read(path)


@pytest.mark.parametrize(
    "name", ["../aclImdb/train/pos/1_9.txt", "/aclImdb/train/pos/2_9.txt", "aclImdb/../x"]
)
def test_rejects_members_outside_the_tree(imdb_archive: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "more.tar.gz"
    with tarfile.open(imdb_archive) as old, tarfile.open(path, "w:gz") as out:
        for member in old:
            out.addfile(member, old.extractfile(member) if member.isreg() else None)
        stray = tarfile.TarInfo(name)
        stray.size = 4
        out.addfile(stray, io.BytesIO(b"text"))
    with pytest.raises(DataError, match="is outside the archive's own tree"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S"])
def test_rejects_links_and_devices_anywhere(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "link.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        member = tarfile.TarInfo("aclImdb/somewhere")
        member.type = kind
        out.addfile(member)
    with pytest.raises(DataError, match="'aclImdb/somewhere' is not a plain file"):
        read(path)


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_reads_every_tar_format(imdb_folder: Path, tmp_path: Path, tar_format: int) -> None:
    path = tmp_path / "format.tar.gz"
    # Each format stores names of more than 100 characters differently.
    (imdb_folder / "train" / "pos" / f"{'x' * 90}_9.txt").write_text("train long name", "utf-8")
    with tarfile.open(path, "w:gz", format=tar_format) as out:
        out.add(imdb_folder, "aclImdb")
    assert read(path) == read(imdb_folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    position=st.integers(0, 40_000),
    value=st.integers(0, 255),
    tar_format=st.sampled_from([0, 1, 2]),
)
def test_damage_raises_only_data_errors(
    imdb_folder: Path, tmp_path: Path, position: int, value: int, tar_format: int
) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tar_format) as out:
        out.add(imdb_folder, "aclImdb")
    content = bytearray(plain.getvalue())
    content[position % len(content)] = value
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(gzip.compress(content, 1))
    with contextlib.suppress(DataError):
        read(path)


def test_rejects_header_with_wrong_checksum(imdb_folder: Path, tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as out:
        out.add(imdb_folder, "aclImdb")
    content = bytearray(plain.getvalue())
    content[3] ^= 1
    path = tmp_path / "damaged.tar.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(
        DataError, match=r"damaged or truncated .*header does not match its checksum"
    ):
        read(path)


@pytest.mark.parametrize("split", ["test", "unlabelled"])
def test_yields_other_splits_if_requested(
    imdb_folder: Path, imdb_archive: Path, split: Split
) -> None:
    documents_of_both = []
    for path in (imdb_folder, imdb_archive):
        source = open_source(DataConfig(source="imdb", path=path), cache_dir=path.parent)
        assert split in source.splits
        documents = list(source.documents([split]))
        assert {each.split for each in documents} == {split}
        assert list(source.documents(["train", split])) == [*source.documents(), *documents]
        documents_of_both.append(documents)
    assert documents_of_both[0] == documents_of_both[1]
    texts = [(each.text, each.label) for each in documents_of_both[0]]
    if split == "test":
        assert all(text.startswith("test ") and label in (0, 1) for text, label in texts)
    else:
        assert texts == [("an unlabelled review", NO_LABEL)]


def archive_of(path: Path, *members: tarfile.TarInfo, content: bytes = b"fine") -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as out:
        for member in members:
            if not member.size:
                member.size = len(content)
            out.addfile(member, io.BytesIO(content.ljust(member.size)))
    return path


def member(name: str, size: int = 0, headers: dict[str, str] | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = size, headers or {}
    return info


REVIEW = "aclImdb/train/pos/1_9.txt"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member(REVIEW, size=(1 << 24) + 1)], f"the member '{REVIEW}' is longer than 16,777,216"),
        ([member(REVIEW), member(f"./{REVIEW}")], f"contains the member './{REVIEW}' twice"),
        (
            [member(REVIEW, size=1, headers={"size": "9" * 5000})],
            "the size of a member is not a number",
        ),
        ([member(REVIEW, headers={"GNU.sparse.major": "1"})], "a member has holes"),
        ([member(REVIEW, headers={"comment": "x" * (1 << 20)})], "an extended header is too long"),
    ],
    ids=["long", "twice", "digits", "sparse", "header"],
)
def test_rejects_hostile_members(
    tmp_path: Path, members: list[tarfile.TarInfo], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(archive_of(tmp_path / "a.tar.gz", *members))


@pytest.mark.parametrize(
    "size", [b"-0000000005\0", b"0o000000005\0", b"+0000000005\0", b"\x80" * 12]
)
def test_rejects_sizes_that_are_not_octal(tmp_path: Path, size: bytes) -> None:
    header = bytearray(member(REVIEW, size=4).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(header) + b"fine".ljust(512, b"\0") + b"\0" * 1024))
    with pytest.raises(DataError, match="the size of a member is not a number"):
        read(path)


def test_size_of_the_archive_is_limited(imdb_archive: Path) -> None:
    config = DataConfig(source="imdb", path=imdb_archive, max_bytes=9_000)
    source = open_source(config, cache_dir=imdb_archive.parent)
    with pytest.raises(DataError, match=r"contains more than 9,000 bytes .* set data\.max_bytes"):
        list(source.documents())


def test_folder_rejects_pipes_and_long_files(imdb_folder: Path) -> None:
    review = imdb_folder / "train" / "pos" / "1_9.txt"
    review.touch()
    os.truncate(review, (1 << 24) + 1)
    with pytest.raises(DataError, match=r"1_9\.txt is longer than 16,777,216 bytes"):
        read(imdb_folder)
    review.unlink()
    os.mkfifo(review)
    with pytest.raises(DataError, match=r"1_9\.txt is not a regular file"):
        read(imdb_folder)
