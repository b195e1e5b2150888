"""Excel workbooks are read as streams."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.errors import DataError
from celltune.data_prep.tables import excel, excel_parts
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.detect import detect
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells
from tests.data_prep.files import archive, workbook

ROWS = [
    ["text", "label", "note"],
    ["a fine film", 1, None],
    ["dull & <late>", 0.0, "x"],
    [" so ", True],
]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_workbook(content: bytes | None = None, **sheets: Any) -> Path:
        path = tmp_path / "r.xlsx"
        path.write_bytes(workbook(sheets) if content is None else content)
        return path

    return write_workbook


def read(path: Path, *names: str, **settings: Any) -> list[tuple[str, list[str]]]:
    columns = [Column("column", name) for name in names]
    max_bytes = settings.pop("max_bytes", None)
    return list(read_cells(path, TableFormat("xlsx", **settings), columns, max_bytes))


def test_sheet_with_texts_is_detected_and_read(write: Any) -> None:
    path = write(Empty="", Reviews=ROWS)
    found = detect(path)
    assert found.format == TableFormat("xlsx", header=True, sheet="Reviews")
    assert found.columns == ("text", "label", "note")
    assert found.rows == [
        ["a fine film", "1", ""],
        ["dull & <late>", "0", "x"],
        [" so ", "True", ""],
    ]
    assert read(path, "label", "text", sheet="Reviews") == [
        (" (row 2 of the sheet)", ["1", "a fine film"]),
        (" (row 3 of the sheet)", ["0", "dull & <late>"]),
        (" (row 4 of the sheet)", ["True", " so "]),
    ]
    assert read(path, "2", header=False)[0] == (" (row 1 of the sheet)", ["label"])


def test_all_kinds_of_values_are_read(write: Any) -> None:
    cells = (
        '<row r="1"><c r="A1" t="inlineStr"><is><t>te</t><r><t>xt</t></r><rPh><t>no</t></rPh></is>'
        '</c><c t="str"><f>A1</f><v>label</v></c></row><row/>'
        '<row r="5"><c r="B5"><v>2.5E-1</v></c><c r="A5" t="str"><v>a_x000D_b</v></c></row>'
        '<row><c r="A6" t="e"><v>#N/A</v></c><c r="B6" t="d"><v>2020-01-01</v></c></row>'
    )
    assert read(write(S=cells), "text", "label") == [
        (" (row 5 of the sheet)", ["a\rb", "0.25"]),
        (" (row ? of the sheet)", ["", "2020-01-01"]),
    ]


def test_sheet_has_to_be_named_if_several_have_texts(write: Any) -> None:
    path = write(One=ROWS, Two=[["label", "text"], [1, "b"]])
    with pytest.raises(DataError, match=r"several sheets: 'One', 'Two'\. Set data\.sheet to one"):
        detect(path)
    assert detect(path, TableFormat(sheet="Two")).rows == [["1", "b"]]
    with pytest.raises(DataError, match=r"no sheet 'three'\. Its sheets are 'One', 'Two'\. Set"):
        detect(path, TableFormat(sheet="three"))
    with pytest.raises(DataError, match=r"has no texts\. It needs a table"):
        detect(write(Empty="<row/>"))


def test_hidden_sheets_are_ignored(write: Any) -> None:
    content = workbook({"Shown": ROWS, "Hidden": ROWS})
    path = write(content)
    with zipfile.ZipFile(path) as zipped:
        parts = {name: zipped.read(name) for name in zipped.namelist()}
    listed = parts["xl/workbook.xml"].replace(b'name="Hidden"', b'name="Hidden" state="hidden"')
    path = write(archive({**parts, "xl/workbook.xml": listed}))
    assert detect(path).format.sheet == "Shown"


def test_text_that_cells_repeat_counts_every_time(write: Any) -> None:
    rows = '<row><c t="s"><v>0</v></c></row>' * 300
    path = write(S=[["text"], ["x" * 100_000]])
    with zipfile.ZipFile(path) as zipped:
        parts = {name: zipped.read(name) for name in zipped.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"].replace(
        b"</sheetData>", rows.encode() + b"</sheetData>"
    )
    strings = parts["xl/sharedStrings.xml"].replace(b">text<", b">" + b"x" * 99_999 + b"<")
    path = write(
        archive({**parts, "xl/worksheets/sheet1.xml": sheet, "xl/sharedStrings.xml": strings})
    )
    assert path.stat().st_size < 10_000
    assert len(read(path, "1", header=False, max_bytes=31_000_000)) == 302
    with pytest.raises(DataError, match=r"contains more than 20,000,000 bytes"):
        read(path, "1", header=False, max_bytes=20_000_000)


def test_parts_are_measured_before_they_are_read(write: Any, monkeypatch: Any) -> None:
    path = write(S="<row/>" * 100_000)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(excel._Workbook, "_parsed", lambda *_: pytest.fail("a part was read"))
    with pytest.raises(DataError, match=r"contains more than 500,000 bytes"):
        read(path, "text", max_bytes=500_000)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet/>'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xl/worksheets/sheet1.xml": BOMB}, "it declares a document type"),
        ({"xl/worksheets/sheet1.xml": "<worksheet><row>"}, "no element found"),
        ({"xl/workbook.xml": "<workbook/>"}, "has no texts"),
        ({"xl/_rels/workbook.xml.rels": "<Relationships/>"}, "has no readable part xl"),
        ({"xl/sharedStrings.xml": "<sst/>"}, "refers to the text 0, which is missing"),
        ({"xl/worksheets/sheet1.xml": '<s><row><c r="ZZZ1"/></row></s>'}, "more than 16,384 cells"),
        ({"xl/worksheets/sheet1.xml": '<s><row><c r="1A"/></row></s>'}, "the reference '1A'"),
        ({"xl/worksheets/sheet1.xml": "<s><row><c><v>x</v></c></row></s>"}, "convert string to fl"),
        ({"xl/worksheets/sheet1.xml": '<s><row><c t="s"/></row></s>'}, "invalid literal for int"),
        (
            {"xl/workbook.xml": "<w>" + '<sheet name="a"/>' * 1001 + "</w>"},
            "has more than 1,000 sheets",
        ),
    ],
)
def test_invalid_part_is_an_error(write: Any, changes: dict[str, str], message: str) -> None:
    path = write(S=ROWS)
    with zipfile.ZipFile(path) as zipped:
        parts: dict[str, str | bytes] = {name: zipped.read(name) for name in zipped.namelist()}
    path = write(archive({**parts, **changes}))
    with pytest.raises(DataError, match=message) as error:
        read(path, "text")
    assert len(str(error.value)) < 500 + len(str(path))


def test_limits_of_texts_and_elements(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel_parts, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(excel_parts, "_CHUNK_BYTES", 100)
    with pytest.raises(DataError, match="a text is longer than 1,000 bytes"):
        read(write(S=[["text"], ["x" * 1001]]), "text")
    monkeypatch.setattr(excel_parts, "MOST_ROWS", 3)
    assert len(read(write(S=[["text"], ["a"], ["b"]]), "text")) == 2
    with pytest.raises(DataError, match="a sheet has more than 3 rows"):
        read(write(S=[["text"], ["a"], [None], ["b"]]), "text")
    with pytest.raises(DataError, match="an element is too long"):
        read(write(S=f'<row r="{"1" * 2000}"/>'), "text")
    monkeypatch.setattr(excel, "BYTES_PER_LINE", 100_000)
    path = write(S=[["x"] * 20] * 10)
    with pytest.raises(DataError, match="more than 62 texts"):
        read(path, "text", max_bytes=6_200_000)


def test_unusual_compression_and_damage_are_errors(write: Any) -> None:
    content = workbook({"S": ROWS})
    for damaged in (content[:-30], content[:200] + b"\xff" * 50 + content[250:], b"PK\x03\x04"):
        with pytest.raises(DataError, match="is not a complete Excel workbook"):
            read(write(damaged), "text")
    path = write(content)
    with zipfile.ZipFile(path) as zipped:
        parts: dict[str, str | bytes] = {name: zipped.read(name) for name in zipped.namelist()}
    with pytest.raises(DataError, match="no readable part"):
        read(write(archive(parts, zipfile.ZIP_LZMA)), "text")
