"""Long cells and many columns are recognized within limits."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celltune.data_prep.errors import DataError
from celltune.data_prep.tables import separated
from celltune.data_prep.tables.detect import detect
from celltune.data_prep.tables.format import TableFormat


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet", "r.csv"])
def test_of_thousands_of_columns_the_first_ones_are_shown(tmp_path: Path, name: str) -> None:
    keys = ["text", *(f"key{number}" for number in range(3_000)), "label"]
    path = tmp_path / name
    if name == "r.jsonl":
        rows = [{"text": "fine", f"key{number}": 1, "label": 0} for number in range(3_000)]
        path.write_text("\n".join(map(json.dumps, [dict.fromkeys(keys, 1), *rows])))
    elif name == "r.parquet":
        pq.write_table(pa.table({key: ["a", "b"] for key in keys}), path)
    else:
        path.write_text("\n".join(",".join([key] * len(keys)) for key in "ab"))
        path.write_text(",".join(keys) + "\n" + path.read_text() + "\n")
    found = detect(path)
    assert found.columns == tuple(keys)
    assert {len(row) for row in found.rows} == {1_000}


@pytest.fixture
def new_process() -> Iterator[None]:
    """Give the module `csv` the limit that it has in a new process."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("new_process")
def test_texts_can_be_as_long_as_documents(tmp_path: Path) -> None:
    text = "word " * 40_000
    path = tmp_path / "r.data"
    path.write_text(f"text,label\n{text}1,a\n{text}2,b\n{text}3,a\n")
    assert [len(row[0]) for row in detect(path).rows] == [200_001] * 3


@pytest.mark.usefixtures("new_process")
def test_first_row_without_an_end_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separated, "MAX_DOCUMENT_BYTES", 1_000)
    path = tmp_path / "r.csv"
    path.write_text('"a fine film,a\n' + f"{'word ' * 50},a\n" * 1_000)
    form = TableFormat("csv", ",", quoting=True, encoding="utf-8")
    with pytest.raises(DataError, match="first row, in which a quote may be missing, is longer"):
        detect(path, form)
