"""Data sets that Hugging Face `datasets` saved on disk."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.tables import arrow as reader
from celltune.data_prep.tables.arrow import stored_size
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.detect import detect
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells
from tests.data_prep.files import arrow, save_dataset

TABLE = pa.table(
    {"text": ["a", "b", None, "d"], "label": [1, 0, 1, -1], "tags": [[1], [], [2], [3]]}
)


def read(path: Path, *names: str, max_bytes: int | None = None) -> list[list[str]]:
    columns = [Column("data.text_column", name) for name in names or ("text", "label")]
    return [cells for _, cells in read_cells(path, TableFormat("dataset"), columns, max_bytes)]


@pytest.mark.parametrize("in_schema", [True, False])
def test_folder_is_read_with_the_names_of_classes(tmp_path: Path, in_schema: bool) -> None:
    path = save_dataset(tmp_path / "train", TABLE, ["neg", "pos"], in_schema=in_schema)
    found = detect(path)
    assert (found.format, found.columns) == (TableFormat("dataset"), ("text", "label"))
    assert found.rows == read(path) == [["a", "pos"], ["b", "neg"], ["", "pos"], ["d", ""]]
    assert read(path, "label", "text", "label")[1] == ["neg", "b", "neg"]


def test_source_reads_folders(tmp_path: Path) -> None:
    table = TABLE.slice(0, 2)
    paths = [save_dataset(tmp_path / name, table, ["neg", "pos"]) for name in ("train", "more")]
    keys: dict[str, Any] = {"format": "dataset", "classes": ["neg", "pos"]}
    source = open_source(DataConfig(path=paths, **keys), cache_dir=tmp_path)
    assert [document.text for document in source.documents()] == ["a", "b", "a", "b"]
    digest = source.digest()
    (paths[1] / "state.json").write_text((paths[1] / "state.json").read_text() + " ")
    assert source.digest() == digest
    part = paths[1] / "data-00001-of-00002.arrow"
    part.write_bytes(arrow(table.slice(0, 1)))
    assert source.digest() != digest
    assert stored_size(paths[0]) > stored_size(part) == part.stat().st_size


@pytest.mark.parametrize("start", [b"", b"ARROW1\0\0"])
def test_single_arrow_file_is_read(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "r.arrow"
    path.write_bytes(start + arrow(TABLE.select(["text", "label"]), max_chunksize=1))
    assert detect(path).format.kind == "dataset"
    assert read(path)[:2] == [["a", "1"], ["b", "0"]]


def test_invalid_utf8_becomes_surrogates(tmp_path: Path) -> None:
    text = pa.array([b"caf\xe9"]).view(pa.string())
    (path := tmp_path / "r.arrow").write_bytes(arrow(pa.table({"text": text})))
    assert read(path, "text") == [["caf\udce9"]]


def test_folder_of_several_splits_names_them(tmp_path: Path) -> None:
    save_dataset(tmp_path / "imdb" / "train", TABLE)
    (tmp_path / "imdb" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(
        DataError, match=r"'train', 'test'\. Set data\.path to .*/imdb/train, data\.te"
    ):
        detect(tmp_path / "imdb")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, r"not one that `save_to_disk` .* no state\.json\. Name a file, or .*/\*\.csv"),
        ("[", r"state\.json is not valid \(it is not valid JSON"),
        ("{}", "names no Arrow files"),
        (
            '{"_data_files": [{"filename": "../a.arrow"}]}',
            "names the file '../a.arrow', which is not",
        ),
        ('{"_data_files": [7]}', "names the file 'None'"),
        ('{"_data_files": [{"filename": ".."}]}', r"names the file '\.\.'"),
        (r'{"_data_files": [{"filename": "a\u0000"}]}', r"names the file 'a\\x00'"),
        (r'{"_data_files": [{"filename": "\ud800"}]}', r"names the file '\\ud800'"),
        ('{"_data_files": [{"filename": "a.arrow"}]}', r"cannot be read \(No such file"),
        ('{"_data_files": [], "_indices_files": [1]}', r"by an index\. .*flatten_indices\(\)"),
    ],
)
def test_other_folders_are_errors(tmp_path: Path, state: str | None, message: str) -> None:
    if state is not None:
        (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=message):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (TABLE, {"compression": "zstd"}, "its rows are compressed"),
        (pa.table({"text": ["a"]}), {}, "has no column 'label'"),
        (pa.table({"text": ["a"], "label": [[1]]}), {}, "'label' contains values of type 'list"),
        (pa.table({"text": ["a"], "label": pa.nulls(1)}), {}, "contains values of type 'null'"),
        (
            pa.table({"text": pa.array(["a"]).dictionary_encode(), "label": [1]}),
            {},
            "message 1 is of type 2",
        ),
    ],
)
def test_unusual_columns_are_errors(tmp_path: Path, table: Any, options: Any, message: str) -> None:
    (path := tmp_path / "r.arrow").write_bytes(arrow(table, **options))
    with pytest.raises(DataError, match=message):
        read(path)


def test_label_without_a_class_is_an_error(tmp_path: Path) -> None:
    path = save_dataset(tmp_path / "train", TABLE, ["neg"])
    with pytest.raises(DataError, match="a label is 1, but there are 1 classes"):
        read(path)


def test_number_of_rows_is_limited_before_they_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    table = pa.table({"text": ["a"] * 50, "label": [1] * 50})
    (path := tmp_path / "r.arrow").write_bytes(arrow(table, max_chunksize=10))
    assert len(read(path, max_bytes=50 * 256)) == 50
    monkeypatch.setattr(reader, "_reader", lambda *_: pytest.fail("rows were read"))
    with pytest.raises(DataError, match=r"more than 49 documents"):
        read(path, max_bytes=50 * 256 - 1)
    with pytest.raises(DataError, match=r"contains more than 100 bytes"):
        read(path, max_bytes=100)
    monkeypatch.setattr(reader, "MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"message 1 has \d+ bytes"):
        read(path)


def test_damaged_files_give_rows_or_a_data_error(tmp_path: Path) -> None:
    content = arrow(TABLE.select(["text", "label"]), max_chunksize=2)
    random_ = random.Random(7)  # noqa: S311
    path, failures = tmp_path / "r.arrow", 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(random_.randint(1, 3)):
            damaged[random_.randrange(len(content))] = random_.choice(
                [0, 1, 255, random_.randrange(256)]
            )
        path.write_bytes(
            bytes(damaged)[: random_.choice([len(content), random_.randrange(len(content))])]
        )
        try:
            read(path)
        except DataError:
            failures += 1
    assert failures > 200
