"""Files of texts without labels next to a table."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.preparation.survey import survey
from celltune.data_prep.sources.base import NO_LABEL, Source
from celltune.data_prep.sources.factory import check_files_exist, open_source

WriteCsv = Callable[..., Path]
TEXTS = ["so, what?", 'a "quoted" film', "noch schöner"]


def separated(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["text"], *([each] for each in TEXTS)])
    return text.getvalue().encode()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), buffer)
    return buffer.getvalue()


CONTENTS = {
    "more.txt": "\n".join([TEXTS[0], "", *TEXTS[1:], " ", ""]).encode(),
    "more.txt.gz": gzip.compress("\r\n".join(TEXTS).encode()),
    "more.csv": separated(","),
    "more.tsv": separated("\t"),
    "more.jsonl.gz": gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode()),
    "more.parquet": parquet(),
}


@pytest.fixture
def config_of(write_csv: WriteCsv, tmp_path: Path) -> Callable[..., DataConfig]:
    table = write_csv([("good film", 1), ("bad film", 0)] * 10)

    def make(content: bytes, name: str = "more.txt", **fields: Any) -> DataConfig:
        path = tmp_path / name
        path.write_bytes(content)
        vectors = {"train": "word2vec", "size": 4, "epochs": 1}
        raw = {"source": "csv", "path": table, "valid_size": 4, "vectors": vectors}
        return DataConfig(**{**raw, "unlabelled": path, **fields})

    return make


def opened(config: DataConfig) -> Source:
    return open_source(config, cache_dir=Path())


@pytest.mark.parametrize("name", CONTENTS)
def test_all_formats_give_the_same_texts(config_of: Callable[..., DataConfig], name: str) -> None:
    source = opened(config_of(CONTENTS[name], name))
    assert source.splits == ("train", "unlabelled")
    documents = list(source.documents(["unlabelled"]))
    assert [document.text for document in documents] == TEXTS
    assert {(document.label, document.split) for document in documents} == {
        (NO_LABEL, "unlabelled")
    }
    assert [document.id for document in documents] == [f"unlabelled row {n}" for n in (1, 2, 3)]
    assert len(list(source.documents())) == 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.txt", b"\n \n", r"more\.txt has no texts\. Add some, or remove data\.unlabelled"),
        ("more.txt", b"fine\ncaf\xe9\n", r"row 2 \(line 2\): byte 0xe9 at character 4"),
        ("more.csv", b"text\nfine\n \n", r"row 2 \(line 3\): the text in column 'text' is empty"),
        ("more.csv", b"body\nfine\n", r"no column 'text'.*Set data\.text_column"),
        ("more.txt.gz", gzip.compress(b"fine " * 99, mtime=0)[:-9], "is damaged or truncated"),
    ],
)
def test_invalid_file_is_rejected_by_validation_and_preparation(
    config_of: Callable[..., DataConfig], tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    config = config_of(content, name)
    with pytest.raises(DataError, match=message):
        survey(config)
    with pytest.raises(DataError, match=message):
        prepare(config, cache_dir=tmp_path / "cache")


def test_missing_file_is_named_with_its_key(config_of: Callable[..., DataConfig]) -> None:
    config = config_of(b"fine")
    assert config.unlabelled is not None
    config.unlabelled.unlink()
    message = r"more\.txt does not exist .*Set data\.unlabelled to an existing"
    with pytest.raises(DataError, match=message):
        check_files_exist(config)
    with pytest.raises(DataError, match=message):
        opened(config)
    config.unlabelled.mkdir()
    with pytest.raises(DataError, match=r"is a folder, but data\.unlabelled must be a file"):
        opened(config)


def test_relative_path_is_anchored(
    config_of: Callable[..., DataConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = config_of(b"fine", unlabelled=Path("more.txt"))
    monkeypatch.chdir(tmp_path)
    anchored = config.anchored()
    monkeypatch.chdir("/")
    assert [document.text for document in opened(anchored).documents(["unlabelled"])] == ["fine"]


def test_words_of_unlabelled_texts_count(
    config_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    rows = [("good film", 1), ("bad film", 0)] * 5 + [("unique word", 1)]
    table = tmp_path / "unique.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    fields = {"path": table, "valid_size": 2, "seed": 4}
    with_texts = config_of(b"one unique word\nanother unique word", **fields)
    without = with_texts.model_copy(update={"unlabelled": None})
    coverage = []
    for config in (with_texts, without):
        data = prepare(config, cache_dir=tmp_path / "cache")
        assert "unique" in data.words
        assert "another" not in data.words
        coverage.append(data.info["vectors"]["types"])  # type: ignore[index, call-overload]
    assert coverage == [1, pytest.approx(3 / 5)]


def test_fingerprint_depends_on_content_and_format_only(
    config_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    def fingerprint(config: DataConfig) -> str:
        return prepare(config, cache_dir=tmp_path / "cache").fingerprint

    names = [fingerprint(config_of(b"text\nfilm")) for _ in range(2)]
    names.append(fingerprint(config_of(b"text\nfilm", "moved.txt")))
    assert len(set(names)) == 1
    others = [
        fingerprint(config_of(b"text\nfilms")),
        fingerprint(config_of(b"text\nfilm", "moved.csv")),
        fingerprint(config_of(b"", unlabelled=None)),
    ]
    assert len({names[0], *others}) == 4


def test_test_split_is_prepared_next_to_unlabelled_texts(
    config_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    config = config_of(b"fine\ntexts", test_size=2)
    assert len(prepare_test(config, cache_dir=tmp_path).split) == 2
    assert prepare(config, cache_dir=tmp_path).info["reviews"] == 20


def test_format_that_no_name_states_has_to_be_set(config_of: Callable[..., DataConfig]) -> None:
    config = config_of(b"so-so\n", "more.doc.gz")
    with pytest.raises(
        DataError, match=r"more\.doc\.gz does not state its format\. Set data\.format"
    ):
        list(open_source(config, cache_dir=Path()).documents(["unlabelled"]))
    config = config_of(b"so-so\n", "more.doc", unlabelled_format={"format": "txt"})
    documents = list(open_source(config, cache_dir=Path()).documents(["unlabelled"]))
    assert [document.text for document in documents] == ["so-so"]
