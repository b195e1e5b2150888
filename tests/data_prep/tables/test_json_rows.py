"""JSON arrays are read element by element."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.tables import json_rows
from celltune.data_prep.tables.cells import BadRow, Column
from celltune.data_prep.tables.detect import detect
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells

COLUMNS = [Column("data.text_column", "text"), Column("data.label_column", "label")]


def read(path: Path, kind: str = "json", **options: Any) -> list[list[str]]:
    return [cells for _, cells in read_cells(path, TableFormat(kind), COLUMNS, **options)]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, deadline=None
)
@given(
    rows=st.lists(st.tuples(st.text(max_size=9), st.integers()), min_size=1, max_size=9),
    indent=st.sampled_from([None, 0, 3]),
    escaped=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_arrays_are_read_exactly(
    tmp_path: Path, rows: list[tuple[str, int]], indent: int | None, escaped: bool, chunk: int
) -> None:
    records = [{"text": text, "label": label} for text, label in rows]
    content = json.dumps(records, indent=indent, ensure_ascii=escaped)
    (path := tmp_path / "r.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    json_rows._CHUNK_CHARACTERS, default = chunk, json_rows._CHUNK_CHARACTERS
    try:
        assert read(path) == [[text, str(label)] for text, label in rows]
    finally:
        json_rows._CHUNK_CHARACTERS = default


def test_array_on_one_line_is_detected(tmp_path: Path) -> None:
    (path := tmp_path / "r.txt").write_text(
        ' [ {"text": "a", "label": true, "x": {}}, {"label": 1}]'
    )
    found = detect(path)
    assert (found.format.kind, found.columns) == ("json", ("text", "label"))
    assert found.rows == [["a", "True"], ["", "1"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is empty. It needs labelled documents, as an array"),
        ('{\n"text": 1}', r'is not an array of JSON objects.*to_json\(orient="records"\)'),
        (
            '[{"text": 1, "label": 2}',
            r"row 1: this is not valid JSON \(a comma or a closing bracket",
        ),
        ('[{"text": 1, "label": 2} {}]', "row 1: this is not valid JSON"),
        ('[{"text": 1, "label": 2}, ]', "row 2: this is not valid JSON"),
        ('[{"text": 1, "label": ', "row 1: this is not valid JSON"),
        ('[{"text": ' + "[" * 100_000, "row 1: this is not valid JSON"),
        ('[{"text": 1, "label": ' + "9" * 5000 + "}]", "an integer has thousands of digits"),
        ("[1]", "row 1: this is a int, not an object"),
        ('[{"text": 1, "label": []}]', "row 1: a cell contains a list"),
        ('[{"text": 1, "lable": 2}]', r"no column 'label' \(did you mean 'lable'\?\)"),
        ('[{"text": 1, "label": 2}, {}]', "row 2: the object has no key 'text'. Add it, or set"),
    ],
)
def test_invalid_array_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    (path := tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert len(str(error.value)) < 500 + len(str(path))


def test_bad_rows_are_reported_and_skipped(tmp_path: Path) -> None:
    rows = ['{"text": "a", "label": 1}', "7", '{"text": []}', '{"text": "b", "label": 0}']
    problems = list[BadRow]()
    (path := tmp_path / "r.json").write_text(f"[{','.join(rows)}]")
    assert read(path, on_problem=problems.append) == [["a", "1"], ["b", "0"]]
    assert [(each.row, each.kind) for each in problems] == [
        (2, "rows that are not JSON objects"),
        (3, "rows without the key 'label'"),
    ]
    (path := tmp_path / "r.jsonl").write_text("\n".join([*rows, "{"]))
    problems.clear()
    assert read(path, "jsonl", on_problem=problems.append) == [["a", "1"], ["b", "0"]]
    assert [each.line for each in problems] == [" (line 2)", " (line 3)", " (line 5)"]


def test_long_element_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(json_rows, "_CHUNK_CHARACTERS", 100)
    (path := tmp_path / "r.json").write_text(f'[{{"text": "{"x" * 5000}"}}]')
    with pytest.raises(DataError, match="row 1: the element is longer than"):
        read(path)
    path.write_text("[" + " " * 5000 + '{"text": "a", "label": 0}]')
    assert read(path) == [["a", "0"]]
