from __future__ import annotations

import gzip
import importlib.util
import struct
import sys
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
from celltune.data_prep.preparation.pipeline import prepare, survey
from celltune.data_prep.vector_config import TORCHTEXT_NAMES
from celltune.data_prep.vectors.embedding import _torchtext
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
    "v.txt": lambda path: _kept(path, TEXT),
    "v.txt.gz": lambda path: _kept(path, gzip.compress(TEXT)),
    "v.zip": lambda path: zipped(path, "glove.3d.txt"),
    "v.vec": lambda path: _kept(path, b"4 3\n" + TEXT),
    "v.bin": lambda path: _kept(path, binary({"good": [1, 2, 3], "film": [4, 5.5, -6]})),
    "v.bin.gz": lambda path: _kept(
        path, gzip.compress(binary({"good": [1, 2, 3], "film": [4, 5.5, -6]}, newline=b""))
    ),
}


def _kept(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_vectors(tmp_path: Path, name: str) -> None:
    found, width = read_vectors(FILES[name](tmp_path / name), ["good", "film", "bad"])
    assert width == 3
    assert {word: vector.tolist() for word, vector in found.items()} == {
        "good": [1, 2, 3],
        "film": [4, 5.5, -6],
    }


def test_a_word_may_hold_blanks(tmp_path: Path) -> None:
    found, _ = read_vectors(_kept(tmp_path / "v.txt", TEXT), [". . ."])
    assert found[". . ."].tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.txt", b"", "is empty; it needs a word and its vector"),
        ("v.bin", b"", "is empty"),
        ("v.txt", b"a 1 2\nb 1 2 3\n", "line 2 has 3 numbers where the lines before have 2"),
        ("v.txt", b"a 1 2\nb 1\n", "line 2 has 1 numbers where the lines before have 2"),
        ("v.txt", b"a 1 x\n", "line 1: could not convert .* a line holds a word and then"),
        ("v.txt", b"a 1 nan\n", "line 1: a vector holds a number that isn't finite"),
        ("v.txt", b"\xff 1 2\n", "line 1: byte 0xff of the word isn't utf-8"),
        ("v.txt", b"2 2\na 1 2\n", "has 1 vectors where its first line says 2: .* cut short"),
        ("v.gz", gzip.compress(TEXT)[:-9], "is damaged or truncated"),
        ("v.zip", b"PK\x03\x04junk", "is damaged or cut short"),
        ("v.bin", b"hello\n", "doesn't begin with a count and a width"),
        ("v.bin", binary({"a": [1, 2]})[:-1], "vector 1 of 1: the file is cut short"),
        ("v.bin", b"3 99999999999\na ", "vectors have 99999999999 numbers each; at most 65536"),
    ],
)
def test_bad_files_are_refused_by_place_and_mend(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_vectors(_kept(tmp_path / name, content), ["a"])


def test_a_zip_of_several_files_needs_a_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "v.zip", "a.txt", "b.txt")
    with pytest.raises(DataError, match=r"holds a\.txt, b\.txt; set data\.vectors\.member"):
        read_vectors(path, ["good"])
    with pytest.raises(DataError, match=r"'c\.txt' is none of them"):
        read_vectors(path, ["good"], member="c.txt")
    assert read_vectors(path, ["good"], member="b.txt")[1] == 3


@pytest.mark.parametrize(
    ("local", "central", "value", "message"),
    [(6, 8, 1, "encrypted"), (8, 10, 77, "compression method")],
)
def test_a_zip_that_python_cannot_unpack_is_refused(
    tmp_path: Path, local: int, central: int, value: int, message: str
) -> None:
    path = zipped(tmp_path / "v.zip", "a.txt")
    content = bytearray(path.read_bytes())
    content[local] = content[content.index(b"PK\1\2") + central] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"can't be unpacked .*{message}.*; unpack it by hand"):
        read_vectors(path, ["good"])


numbers = st.floats(-1e6, 1e6, width=32)
words = st.text(st.characters(codec="utf-8", exclude_characters=" \n\r"), min_size=1).filter(
    lambda word: word == "".join(word.split())
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(words, st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_was_written_is_read(tmp_path: Path, vectors: dict[str, list[float]]) -> None:
    found, width = read_vectors(_kept(tmp_path / "v.bin", binary(vectors)), list(vectors))
    assert width == 3
    assert {word: vector.tolist() for word, vector in found.items()} == vectors


@pytest.fixture
def opened(tmp_path: Path, write_csv: WriteCsv) -> Any:
    path = write_csv(ROWS)

    def open_it(**vectors: Any) -> PreparedData:
        config = DataConfig(source="csv", path=path, valid_size=10, vectors=vectors)  # type: ignore[arg-type]
        return prepare(config, cache_dir=tmp_path / "cache")

    return open_it


def test_the_embedding_is_in_the_vocabularys_order(opened: Any, tmp_path: Path) -> None:
    data = opened(path=_kept(tmp_path / "v.txt", TEXT), tuned=False)
    assert data.words == ("<unk>", "<pad>", "film", "good", "bad")
    assert data.vectors.dtype == np.float32
    assert data.vectors.tolist() == [[0, 0, 0], [0, 0, 0], [4, 5.5, -6], [1, 2, 3], [0, 0, 0]]
    assert not data.vectors_tuned
    # Of the words two in three, of the tokens "good", "good", "film" and "film" of five.
    assert data.info["vectors"] == {"size": 3, "types": pytest.approx(2 / 3), "tokens": 0.8}
    again = opened(path=tmp_path / "v.txt", tuned=False)
    assert (again.vectors == data.vectors).all()
    assert not again.vectors_tuned


def test_unknown_words_may_be_drawn(opened: Any, tmp_path: Path) -> None:
    path = _kept(tmp_path / "v.txt", TEXT)
    first, again = opened(path=path, unknown="drawn"), opened(path=path, unknown="drawn")
    assert (first.vectors == again.vectors).all()
    assert first.vectors[0].any()
    assert first.vectors[4].any()
    assert not first.vectors[1].any()


def test_unknown_words_may_be_dropped(opened: Any, tmp_path: Path) -> None:
    data = opened(path=_kept(tmp_path / "v.txt", TEXT), unknown="dropped")
    assert data.words == ("<unk>", "<pad>", "film", "good")
    assert data.vectors.tolist() == [[0, 0, 0], [0, 0, 0], [4, 5.5, -6], [1, 2, 3]]
    # "good good film" stays whole, of "bad film" only the film.
    assert {len(ids) for ids in np.split(data.train.ids, data.train.offsets[1:-1])} == {1, 3}
    assert set(data.train.ids) == set(data.valid.ids) == {2, 3}
    assert data.info["vectors"]["tokens"] == 0.8


def test_the_vectors_content_is_part_of_the_fingerprint(opened: Any, tmp_path: Path) -> None:
    one = opened(path=_kept(tmp_path / "v.txt", TEXT)).fingerprint
    moved = opened(path=_kept(tmp_path / "w.txt", TEXT)).fingerprint
    other = opened(path=_kept(tmp_path / "v.txt", TEXT.replace(b"5.5", b"5"))).fingerprint
    assert one == moved != other


@pytest.mark.parametrize(
    ("name", "file", "member"),
    [
        ("glove.6B.100d", "glove.6B.zip", "glove.6B.100d.txt"),
        ("glove.twitter.27B.25d", "glove.twitter.27B.zip", "glove.twitter.27B.25d.txt"),
        ("fasttext.simple.300d", "wiki.simple.vec", None),
    ],
)
def test_torchtexts_names_are_downloaded_once(
    opened: Any, monkeypatch: pytest.MonkeyPatch, name: str, file: str, member: str | None
) -> None:
    fetched: list[str] = []

    def fetch(url: str, target: Path, **_: Any) -> Path:
        fetched.append(url)
        target.parent.mkdir(parents=True)
        return zipped(target, member, "other.txt") if member else _kept(target, TEXT)

    monkeypatch.setattr("celltune.data_prep.vectors.embedding.fetch", fetch)
    for _ in range(2):
        assert opened(name=name).vectors[3].tolist() == [1, 2, 3]
    assert [url.rpartition("/")[2] for url in fetched] == [file]


@pytest.mark.parametrize("name", TORCHTEXT_NAMES)
def test_every_name_is_torchtexts(name: str) -> None:
    assert name in pretrained_aliases
    url, file, member = _torchtext(name)
    assert url.endswith(file)
    assert member in (None, f"{name}.txt")


def test_vectors_of_other_words_are_refused(opened: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 3 words of the vocabulary has a vector"):
        opened(path=_kept(tmp_path / "v.txt", b"Good 1 2\n"))
    with pytest.raises(DataError, match=r"isn't a file .*set data\.vectors\.path"):
        opened(path=tmp_path / "none.txt")


def test_without_gensim_its_extra_is_named(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(DataError, match=r"pip install 'celltune\[word2vec\]'"):
        opened(train="word2vec")
    with pytest.raises(DataError, match=r"pip install 'celltune\[word2vec\]'"):
        survey(DataConfig(source="synthetic", vectors={"train": "word2vec"}))  # type: ignore[arg-type]


def test_a_survey_looks_for_vectors_and_reads_none(tmp_path: Path) -> None:
    def surveyed(**vectors: Any) -> dict[str, int]:
        return survey(DataConfig(source="synthetic", reviews=40, vectors=vectors))  # type: ignore[arg-type]

    assert surveyed(name="glove.6B.100d") == surveyed(path=_kept(tmp_path / "v.txt", b"no vectors"))
    with pytest.raises(DataError, match=r"isn't a file .*set data\.vectors\.path"):
        surveyed(path=tmp_path / "none.txt")


@pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="needs celltune[word2vec]")
@pytest.mark.filterwarnings("default")
def test_vectors_learned_from_the_data_are_the_same_twice(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(train="word2vec", size=8, epochs=2)
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
