from __future__ import annotations

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchtext.vocab import pretrained_aliases

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.preparation.survey import Survey, survey
from celltune.data_prep.vector_config import TORCHTEXT_NAMES
from celltune.data_prep.vectors.embedding import _torchtext_location
from celltune.data_prep.vectors.files import read_vectors

WriteCsv = Callable[..., Path]
ROWS = [("good good film", 1), ("bad film", 0)] * 20
TEXT = b"good 1 2 3\nfilm 4 5.5 -6\n. . . 7 8 9\nelse 0 0 1\n"


def binary(vectors: dict[str, list[float]], newline: bytes = b"\n") -> bytes:
    width = len(next(iter(vectors.values())))
    lines = [word.encode() + b" " + struct.pack(f"<{width}f", *v) for word, v in vectors.items()]
    return f"{len(vectors)} {width}\n".encode() + newline.join(lines)


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "v.txt": lambda path: _write(path, TEXT),
    "v.txt.gz": lambda path: _write(path, gzip.compress(TEXT)),
    "v.zip": lambda path: zipped(path, "glove.3d.txt"),
    "v.vec": lambda path: _write(path, b"4 3\n" + TEXT),
    "v.bin": lambda path: _write(path, binary({"good": [1, 2, 3], "film": [4, 5.5, -6]})),
    "v.bin.gz": lambda path: _write(
        path, gzip.compress(binary({"good": [1, 2, 3], "film": [4, 5.5, -6]}, newline=b""))
    ),
}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_all_file_formats_give_the_same_vectors(tmp_path: Path, name: str) -> None:
    vectors, width, _ = read_vectors(FILES[name](tmp_path / name), ["good", "film", "bad"])
    assert width == 3
    assert {word: vector.tolist() for word, vector in vectors.items()} == {
        "good": [1, 2, 3],
        "film": [4, 5.5, -6],
    }


def test_word_can_contain_spaces(tmp_path: Path) -> None:
    vectors, *_ = read_vectors(_write(tmp_path / "v.txt", TEXT), [". . ."])
    assert vectors[". . ."].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"", r"is empty\. Each line has to contain a word and its vector"),
        ("v.bin", b"", "is empty"),
        ("v.txt", b"a 1 2\nb 1 2 3\n", "line 2 has 3 numbers, but the lines before it have 2"),
        ("v.txt", b"a 1 2\nb 1\n", "line 2 has 1 numbers, but the lines before it have 2"),
        ("v.txt", b"a 1 x\n", "line 1: 'x' is not a number. A line has to contain a word"),
        ("v.txt", b"a 1 nan\n", "line 1: the vector contains a value that is not finite"),
        ("v.txt", b"a 1 2\n" * 197 + b"\xff 1 2\n" * 3, "3 of 200 words are not valid UTF-8. Conv"),
        ("v.txt", b"a\nb 1 2\n", "line 1 has a word without numbers"),
        ("v.txt", b"a 1 x 5\n", "line 1: 'x' is not a number"),
        (
            "v.txt",
            b"2 2\na 1 2\n",
            "contains 1 vectors, but its first line states 2.* truncated",
        ),
        ("v.gz", gzip.compress(TEXT, mtime=0)[:-9], "is damaged or"),
        ("v.zip", b"PK\x03\x04junk", "is damaged or truncated"),
        ("v.bin", b"hello\n", "is not a word2vec binary file"),
        ("v.bin", binary({"a": [1, 2]})[:-1], "vector 1 of 1: the file is truncated"),
        (
            "v.bin",
            b"3 99999999999\na ",
            "has vectors of 99,999,999,999 numbers, but at most 65,536",
        ),
    ],
)
def test_error_for_an_invalid_file_names_place_and_fix(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_vectors(_write(tmp_path / name, content), ["a"])


@pytest.mark.parametrize(
    "content",
    [
        b"a\t1\t2\nb\t3\t4\n",
        b"2\t2\na\t1 2\nb\t3 4\n\n",
        b". . . 5 6\na 1 2\r\n \nb c 7 8\nb 3 4\n\n\n",
        b"a 1 2\n\xff\xfe 5 6\nb 3 4\n",
    ],
)
def test_usual_deviations_are_read(tmp_path: Path, content: bytes) -> None:
    found = read_vectors(_write(tmp_path / "v.txt", content), ["a", "b"])
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        "a": [1, 2],
        "b": [3, 4],
    }
    assert (found.width, found.undecodable) == (2, content.count(b"\xff"))


def test_first_word_can_contain_spaces(tmp_path: Path) -> None:
    path = _write(tmp_path / "v.txt", b". . . 1 2\na 3 4\n")
    assert read_vectors(path, [". . ."]).vectors[". . ."].tolist() == [1, 2]


def test_undecodable_words_are_counted_in_the_facts(prepared: Any, tmp_path: Path) -> None:
    content = binary({"good": [1, 2], "film": [3, 4], "x": [5, 6]}).replace(b"x ", b"\xff ")
    facts = prepared(path=_write(tmp_path / "v.bin", content)).info["vectors"]
    assert facts["undecodable"] == 1
    content = binary({"good": [1, 2], "film": [3, 4]})
    assert "undecodable" not in prepared(path=_write(tmp_path / "w.bin", content)).info["vectors"]


def test_zip_with_several_files_requires_a_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "v.zip", "a.txt", "b.txt")
    with pytest.raises(DataError, match=r"are: a\.txt, b\.txt\. Set data\.vectors\.member"):
        read_vectors(path, ["good"])
    with pytest.raises(DataError, match=r"has no file 'c\.txt'"):
        read_vectors(path, ["good"], member="c.txt")
    assert read_vectors(path, ["good"], member="b.txt")[1] == 3


@pytest.mark.parametrize(
    ("local", "central", "value", "message"),
    [(6, 8, 1, "encrypted"), (8, 10, 77, "compression method")],
)
def test_unsupported_zip_is_rejected(
    tmp_path: Path, local: int, central: int, value: int, message: str
) -> None:
    path = zipped(tmp_path / "v.zip", "a.txt")
    content = bytearray(path.read_bytes())
    content[local] = content[content.index(b"PK\1\2") + central] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot be unpacked .*{message}.*Unpack it by hand"):
        read_vectors(path, ["good"])


numbers = st.floats(-1e6, 1e6, width=32)
words = st.text(st.characters(codec="utf-8", exclude_characters=" \n\r"), min_size=1).filter(
    lambda word: word == "".join(word.split())
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(words, st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5))
def test_binary_files_are_read_exactly(tmp_path: Path, vectors: dict[str, list[float]]) -> None:
    path = _write(tmp_path / "v.bin", binary(vectors))
    read, width, _ = read_vectors(path, list(vectors))
    assert width == 3
    assert {word: vector.tolist() for word, vector in read.items()} == vectors


@pytest.fixture
def prepared(tmp_path: Path, write_csv: WriteCsv) -> Any:
    path = write_csv(ROWS)

    def prepare_with(**vectors: Any) -> PreparedData:
        config = DataConfig(source="csv", path=path, valid_size=10, vectors=vectors)  # type: ignore[arg-type]
        return prepare(config, cache_dir=tmp_path / "cache")

    return prepare_with


def test_embedding_is_in_the_order_of_the_vocabulary(prepared: Any, tmp_path: Path) -> None:
    data = prepared(path=_write(tmp_path / "v.txt", TEXT), tuned=False)
    assert data.words == ("<unk>", "<pad>", "film", "good", "bad")
    assert data.vectors.dtype == np.float32
    assert data.vectors.tolist() == [[0, 0, 0], [0, 0, 0], [4, 5.5, -6], [1, 2, 3], [0, 0, 0]]
    assert not data.vectors_tuned
    # Two of three words have a vector; so have "good", "good", "film" and "film" of five tokens.
    assert data.info["vectors"] == {"size": 3, "types": pytest.approx(2 / 3), "tokens": 0.8}
    again = prepared(path=tmp_path / "v.txt", tuned=False)
    assert (again.vectors == data.vectors).all()
    assert not again.vectors_tuned


def test_unknown_words_get_random_vectors_if_drawn(prepared: Any, tmp_path: Path) -> None:
    path = _write(tmp_path / "v.txt", TEXT)
    first, again = prepared(path=path, unknown="drawn"), prepared(path=path, unknown="drawn")
    assert (first.vectors == again.vectors).all()
    assert first.vectors[0].any()
    assert first.vectors[4].any()
    assert not first.vectors[1].any()


def test_unknown_words_are_removed_if_dropped(prepared: Any, tmp_path: Path) -> None:
    data = prepared(path=_write(tmp_path / "v.txt", TEXT), unknown="dropped")
    assert data.words == ("<unk>", "<pad>", "film", "good")
    assert data.vectors.tolist() == [[0, 0, 0], [0, 0, 0], [4, 5.5, -6], [1, 2, 3]]
    # "good good film" stays complete; "bad film" loses "bad".
    assert {len(ids) for ids in np.split(data.train.ids, data.train.offsets[1:-1])} == {1, 3}
    assert set(data.train.ids) == set(data.valid.ids) == {2, 3}
    assert data.info["vectors"]["tokens"] == 0.8


def test_fingerprint_depends_on_the_content_of_the_vectors(prepared: Any, tmp_path: Path) -> None:
    one = prepared(path=_write(tmp_path / "v.txt", TEXT)).fingerprint
    moved = prepared(path=_write(tmp_path / "w.txt", TEXT)).fingerprint
    other = prepared(path=_write(tmp_path / "v.txt", TEXT.replace(b"5.5", b"5"))).fingerprint
    assert one == moved != other


@pytest.mark.parametrize(
    ("name", "file", "member"),
    [
        ("glove.6B.100d", "glove.6B.zip", "glove.6B.100d.txt"),
        ("glove.twitter.27B.25d", "glove.twitter.27B.zip", "glove.twitter.27B.25d.txt"),
        ("fasttext.simple.300d", "wiki.simple.vec", None),
    ],
)
def test_vectors_are_downloaded_once_by_torchtext_name(
    prepared: Any, monkeypatch: pytest.MonkeyPatch, name: str, file: str, member: str | None
) -> None:
    fetched: list[str] = []

    def fetch(url: str, target: Path, **_: Any) -> Path:
        fetched.append(url)
        target.parent.mkdir(parents=True)
        return zipped(target, member, "other.txt") if member else _write(target, TEXT)

    monkeypatch.setattr("celltune.data_prep.vectors.embedding.fetch", fetch)
    for _ in range(2):
        assert prepared(name=name).vectors[3].tolist() == [1, 2, 3]
    assert [url.rpartition("/")[2] for url in fetched] == [file]


@pytest.mark.parametrize("name", TORCHTEXT_NAMES)
def test_all_names_are_known_to_torchtext(name: str) -> None:
    assert name in pretrained_aliases
    url, file, member = _torchtext_location(name)
    assert url.endswith(file)
    assert member in (None, f"{name}.txt")


def test_vectors_without_a_word_of_the_vocabulary_are_rejected(
    prepared: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="None of the 3 words of the vocabulary has a vector"):
        prepared(path=_write(tmp_path / "v.txt", b"Good 1 2\n"))
    with pytest.raises(DataError, match=r"does not exist .*Set data\.vectors\.path"):
        prepared(path=tmp_path / "none.txt")


def test_survey_checks_that_vectors_exist_without_reading_them(tmp_path: Path) -> None:
    def surveyed(**vectors: Any) -> Survey:
        return survey(DataConfig(source="synthetic", reviews=40, vectors=vectors))  # type: ignore[arg-type]

    for vectors in ({"name": "glove.6B.100d"}, {"path": _write(tmp_path / "v.txt", b"no vectors")}):
        assert sum(map(len, surveyed(**vectors).counts.values())) == 4
    with pytest.raises(DataError, match=r"does not exist .*Set data\.vectors\.path"):
        surveyed(path=tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"is a folder, but data\.vectors\.path must be a file"):
        surveyed(path=tmp_path)


def test_learned_vectors_are_reproducible(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(train="word2vec", size=8, epochs=2)
    assert first.vectors.shape == (5, 8)
    assert first.info["vectors"]["types"] == 1
    again = prepare(
        DataConfig(
            source="csv",
            path=tmp_path / "reviews.csv",
            valid_size=10,
            vectors={"train": "word2vec", "size": 8, "epochs": 2},  # type: ignore[arg-type]
        ),
        cache_dir=tmp_path / "other",
    )
    assert (first.vectors == again.vectors).all()
