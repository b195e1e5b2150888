"""Writers of files of single formats for tests."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def cell(reference: str, value: object, strings: list[str]) -> str:
    """Return the XML of a cell as Excel writes it; None for an empty one."""
    if value is None:
        return f'<c r="{reference}"/>'
    if isinstance(value, bool):
        return f'<c r="{reference}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{reference}"><v>{value!r}</v></c>'
    strings.append(str(value))
    return f'<c r="{reference}" t="s"><v>{len(strings) - 1}</v></c>'


def _rows(rows: Sequence[Sequence[object]], strings: list[str]) -> str:
    def row(number: int, values: Sequence[object]) -> str:
        cells = (cell(f"{chr(65 + at)}{number}", each, strings) for at, each in enumerate(values))
        return f'<row r="{number}">{"".join(cells)}</row>'

    return "".join(row(number, values) for number, values in enumerate(rows, start=1))


def workbook(sheets: Mapping[str, Sequence[Sequence[object]] | str]) -> bytes:
    """Return an Excel workbook; a sheet can also be given as XML."""
    strings = list[str]()
    parts = dict[str, str]()
    for number, rows in enumerate(sheets.values(), start=1):
        data = rows if isinstance(rows, str) else _rows(rows, strings)
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{data}</sheetData></worksheet>'
        )
    listed = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{number}" r:id="rId{number}"/>'
        for number, name in enumerate(sheets, start=1)
    )
    parts["xl/workbook.xml"] = (
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{listed}</sheets></workbook>'
    )
    parts["xl/_rels/workbook.xml.rels"] = "<Relationships>{}</Relationships>".format(
        "".join(
            f'<Relationship Id="rId{number}" Target="worksheets/sheet{number}.xml"/>'
            for number in range(1, len(sheets) + 1)
        )
    )
    parts["xl/sharedStrings.xml"] = f'<sst xmlns="{_MAIN}">' + "".join(
        f'<si><t xml:space="preserve">{escape(text)}</t></si>' for text in strings
    ) + "</sst>"  # fmt: skip
    return archive(parts)


def archive(parts: Mapping[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as zipped:
        for name, content in parts.items():
            zipped.writestr(name, content)
    return file.getvalue()


def arrow(table: pa.Table, **options: Any) -> bytes:
    """Return an Arrow stream."""
    sink = pa.BufferOutputStream()
    chunk = options.pop("max_chunksize", None)
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, chunk)
    return sink.getvalue().to_pybytes()


def save_dataset(
    folder: Path, table: pa.Table, classes: Sequence[str] | None = None, *, in_schema: bool = True
) -> Path:
    """Write a data set as `Dataset.save_to_disk` does, in two Arrow files."""
    folder.mkdir(parents=True)
    features: dict[str, Any] = {
        name: {"dtype": "string", "_type": "Value"} for name in table.schema.names
    }
    if classes is not None:
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    if in_schema:
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    half = (table.num_rows + 1) // 2
    names = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
    for name, part in zip(names, (table.slice(0, half), table.slice(half)), strict=True):
        (folder / name).write_bytes(arrow(part))
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "1"}
    (folder / "state.json").write_text(json.dumps(state))
    return folder
