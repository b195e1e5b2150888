from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.factory import open_source

KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.dictionary(pa.int32(), pa.string()),
]


def write(path: Path, texts: list[bytes], kind: Any, **columns: list[Any]) -> Path:
    values = pa.array(texts, pa.binary())
    if kind in (pa.string(), pa.large_string()):
        values = values.cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
        values = pa.Array.from_buffers(kind, len(values), values.buffers())
    elif pa.types.is_dictionary(kind):
        words = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
        values = pa.DictionaryArray.from_arrays(pa.array(range(len(words)), pa.int32()), words)
    elif kind == pa.string_view():
        values = pa.Array.from_buffers(pa.string(), len(values), values.buffers()).cast(kind)
    pq.write_table(pa.table({"text": values, **columns}), path)
    return path


def read(path: Path, **columns: Any) -> list[Document]:
    config = DataConfig(source="parquet", path=path, **columns)
    return list(open_source(config, cache_dir=path.parent).documents())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_reads_text_of_every_arrow_type(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "r.parquet", ["schön".encode(), b"dull"], kind, label=[1, 0])
    assert [(each.text, each.label) for each in read(path)] == [("schön", 1), ("dull", 0)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_error_of_invalid_utf8_names_row(tmp_path: Path, kind: Any) -> None:
    path = write(tmp_path / "r.parquet", [b"dull", b"sch\xf6n"], kind, label=[0, 1])
    message = r"r\.parquet, row 2: byte 0xf6 at character 4 of the text is not valid UTF-8\. Save"
    with pytest.raises(DataError, match=message):
        read(path)


def test_error_of_invalid_utf8_in_label_names_row(tmp_path: Path) -> None:
    labels = pa.array([b"0", b"1\xf6"], pa.binary())
    path = write(tmp_path / "r.parquet", [b"dull", b"fine"], pa.string(), label=labels)
    with pytest.raises(DataError, match="row 2: byte 0xf6 at character 2 of the label is"):
        read(path)


@pytest.mark.parametrize("cell", [["a", "list"], {"a": 1}])
def test_rejects_nested_cell(tmp_path: Path, cell: Any) -> None:
    path = write(tmp_path / "r.parquet", [b"fine"], pa.string(), label=[cell])
    message = r"the column 'label' contains values of type '(list|struct).*They must be plain text"
    with pytest.raises(DataError, match=message):
        read(path)


def test_rejects_damaged_page(tmp_path: Path) -> None:
    path = write(tmp_path / "r.parquet", [b"dull", b"fine"] * 9, pa.string(), label=[0, 1] * 9)
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xff" * 40 + content[60:])
    with pytest.raises(
        DataError, match=r"r\.parquet is not a complete Parquet file .*Get or write"
    ):
        read(path)
