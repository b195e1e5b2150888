"""Valid data files of every format and compression, and damage inside of them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

from _hostile import archives, fixtures
from _hostile.mutations import mutated_bytes

ROWS = 60
SHEET = "xl/sheet.xml"
NAMES = (
    "data.csv",
    "data.csv.gz",
    "data.csv.bz2",
    "data.csv.xz",
    "data.csv.zst",
    "data.semicolons.csv",
    "data.utf16.csv",
    "data.tsv",
    "data.txt",
    "data.json",
    "data.jsonl",
    "data.jsonl.gz",
    "data.xlsx",
    "data.arrow",
    "data.folder",
    "data.parquet",
    "data.pkl.gz",
    "data.tar.gz",
)
"""Names of valid files. A text file has tabs; a folder is a data set saved on disk."""
_STORED = "data.arrow"
"""The only file of rows in a saved data set."""

_COMPRESSIONS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (lambda content: gzip.compress(content, 1), gzip.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".xz": (lambda content: lzma.compress(content, preset=0), lzma.decompress),
    ".zst": (
        lambda content: pa.Codec("zstd").compress(content, asbytes=True),
        lambda content: pa.input_stream(pa.py_buffer(content), compression="zstd").read(),
    ),
}
"""How the content of files is compressed and decompressed, by the end of their names."""


def write_valid(path: Path) -> None:
    """Write a valid file of the format that its name ends in."""
    suffix = path.suffix
    plain = path.name.removesuffix(suffix) if suffix in _COMPRESSIONS else path.name
    rows = fixtures.reviews(ROWS)
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    if plain.endswith(".parquet"):
        pq.write_table(table, path)
    elif plain.endswith(".arrow"):
        _write_arrow(path, table)
    elif plain.endswith(".folder"):
        path.mkdir()
        _write_arrow(path / _STORED, table)
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": _STORED}]}))
    elif plain.endswith(".tar"):
        path.write_bytes(archives.tar_of_reviews(ROWS // 2))
    else:
        content = _content(plain, rows)
        path.write_bytes(_COMPRESSIONS[suffix][0](content) if plain != path.name else content)


def _content(name: str, rows: list[tuple[str, str]]) -> bytes:
    """Return the content of a file without its compression."""
    table = [("text", "label"), *rows]
    objects = [{"text": text, "label": label} for text, label in rows]
    if name.endswith(".pkl"):
        positive = {"books": [text.split() for text, label in rows if label == "1"]}
        negative = {"books": [text.split() for text, label in rows if label == "0"]}
        return pickle.dumps((positive, negative, ["word"]))
    if name.endswith(".xlsx"):
        return _workbook(table)
    if name.endswith(".json"):
        return json.dumps(objects).encode()
    if name.endswith(".jsonl"):
        return "\n".join(map(json.dumps, objects)).encode()
    delimiter = "\t" if name.endswith((".tsv", ".txt")) else ";" if "semicolons" in name else ","
    quoted = (f'"{text}"' if "," in text else text for text, _ in table)
    lines = [delimiter.join(row) for row in zip(quoted, (each for _, each in table), strict=True)]
    return "\n".join([*lines, ""]).encode("utf-16" if "utf16" in name else "utf-8")


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def _workbook(table: list[tuple[str, str]]) -> bytes:
    def cell(text: str) -> str:
        return f'<c t="inlineStr"><is><t>{escape(text)}</t></is></c>'

    rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in table)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in archives.WORKBOOK_PARTS.items():
            archive.writestr(part, content)
        archive.writestr(SHEET, f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
    return file.getvalue()


def damage(path: Path, random: Random) -> str:
    """Change bytes of a file, or of what is compressed in it, and return what was changed."""
    if path.is_dir():
        path = random.choice(sorted(path.iterdir()))
    content, labels = path.read_bytes(), list[str]()
    pack, unpack = _COMPRESSIONS.get(path.suffix, (bytes, bytes))
    if path.suffix == ".xlsx":
        pack, unpack = _with_sheet(content), _sheet
    is_inside = unpack is not bytes and random.random() < 0.6
    content = unpack(content) if is_inside else content
    for _ in range(random.choice((1, 1, 4))):
        content, label = mutated_bytes(content, random)
        labels.append(label)
    path.write_bytes(pack(content) if is_inside else content)
    return f"{path.name}{' inside' * is_inside}: {'; '.join(labels)}"


def _sheet(workbook: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        return archive.read(SHEET)


def _with_sheet(workbook: bytes) -> Callable[[bytes], bytes]:
    """Return a function that replaces the sheet of a workbook."""

    def replaced(sheet: bytes) -> bytes:
        file = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(workbook)) as old,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, sheet if name == SHEET else old.read(name))
        return file.getvalue()

    return replaced
