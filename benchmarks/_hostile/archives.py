"""Files that are small but become large, or whose headers lie; they are made once."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BOMB_BYTES = 3 << 30
"""Size of what a bomb becomes."""


class _Executes:
    """An object whose pickle runs a command."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch ../outside/executed",)


def make(folder: Path) -> None:
    """Write all bombs to a folder."""
    folder.mkdir()
    _gzipped(folder / "line.txt.gz", b"", b"word ")
    _gzipped(folder / "line.csv.gz", b'text,label\n"', b"word ")
    _gzipped(folder / "zeros.csv.gz", b"text,label\n", b"\0")
    _gzipped(folder / "line.jsonl.gz", b'{"text": "', b"word ")
    _gzipped(folder / "columns.tsv.gz", b"text\tlabel\n", b"a\t")
    _gzipped(folder / "vectors.txt.gz", b"word ", b"0.1 ")
    _gzipped(folder / "zeros.tar.gz", b"", b"\0")
    _gzipped(folder / "opcodes.pkl.gz", b"\x80\x04(", b"]")
    _zipped(folder / "vectors.zip")
    for name, compress in _COMPRESSORS.items():
        _packed(folder / f"line.csv.{name}", b'text,label\n"', b"word ", compress)
    _gzipped(folder / "text.json.gz", b'[{"text": "', b"word ")
    _gzipped(folder / "elements.json.gz", b"[{}", b",{}")
    _gzipped(folder / "wide.csv.gz", codecs.BOM_UTF16_LE, "\u0a0a".encode("utf-16-le"))
    _workbooks(folder)
    _datasets(folder)
    _parquet(folder / "repeated.parquet")
    _pickles(folder)
    _tars(folder)


def _gzipped(path: Path, start: bytes, repeated: bytes) -> None:
    _packed(path, start, repeated, lambda content: gzip.compress(content, 9, mtime=0))


def _packed(path: Path, start: bytes, repeated: bytes, compress: Callable[[bytes], bytes]) -> None:
    # Members of one file are read as one stream, so that the same few bytes serve many times.
    block = repeated * ((8 << 20) // len(repeated))
    path.write_bytes(compress(start) + compress(block) * (BOMB_BYTES // len(block)))


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


_OFFICE = "http://schemas.openxmlformats.org"
WORKBOOK_PARTS = {
    "xl/workbook.xml": (
        f'<workbook xmlns="{_OFFICE}/spreadsheetml/2006/main" '
        f'xmlns:r="{_OFFICE}/officeDocument/2006/relationships"><sheets>'
        '<sheet name="S" sheetId="1" r:id="a"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships><Relationship Id="a" Target="sheet.xml"/></Relationships>'
    ),
}
"""Documents of a workbook whose only sheet is `xl/sheet.xml`."""


def _workbooks(folder: Path) -> None:
    header = '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row>'
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 9))
    contents = {
        "rows": ("<si><t>text</t></si><si><t>label</t></si>", header, "<row/>"),
        "cells": ("<si><t>text</t></si><si><t>label</t></si>", f"{header}<row>", "<c/>"),
        "columns": (
            "<si><t>text</t></si><si><t>label</t></si>",
            header,
            '<row><c r="XFD1"/></row>',
        ),
        "strings": ("<si/>", header, ""),
        "text": (
            f"<si><t>text</t></si><si><t>label</t></si><si><t>{'word ' * 3_000_000}</t></si>",
            header,
            '<row><c t="s"><v>2</v></c></row>',
        ),
    }
    for name, (strings, start, repeated) in contents.items():
        with zipfile.ZipFile(folder / f"{name}.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in WORKBOOK_PARTS.items():
                archive.writestr(part, content)
            repeats = 1 << 22 if name == "strings" else 1
            archive.writestr("xl/sharedStrings.xml", f"<sst>{strings * repeats}</sst>")
            rows = repeated * (100_000 if name == "text" else 1 << 22)
            end = "</row>" if name == "cells" else ""
            archive.writestr("xl/sheet.xml", f"<worksheet>{start}{rows}{end}</worksheet>")
    with zipfile.ZipFile(folder / "entities.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        document = f'<!DOCTYPE x [<!ENTITY e0 "word">{entities}]><x>&e8;</x>'
        for part in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/sharedStrings.xml"):
            archive.writestr(part, document)


def _datasets(folder: Path) -> None:
    text = pa.array(["word " * 200_000])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), text)
    rows = pa.nulls(1 << 20, pa.string())
    tables = {
        "compressed dataset": pa.table({"text": pa.concat_arrays([text] * 100)}),
        "rows dataset": pa.table({"text": rows, "label": rows}),
        "repeated dataset": pa.table({"text": repeated, "label": ["0", "1"] * 10_000}),
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        (folder / name / "state.json").write_text('{"_data_files": [{"filename": "a.arrow"}]}')
        options = pa.ipc.IpcWriteOptions(compression="zstd" if name[0] == "c" else None)
        with pa.ipc.new_stream(folder / name / "a.arrow", table.schema, options=options) as writer:
            writer.write_table(table)


def _zipped(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("vectors.txt", "w", force_zip64=True) as member,
    ):
        member.write(b"word")
        for _ in range(128):
            member.write(b" 0.1" * (1 << 21))


def _parquet(path: Path) -> None:
    text = pa.array(["word " * 200_000]).dictionary_encode()
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), text.dictionary)
    labels = pa.array(["0", "1"] * 10_000)
    pq.write_table(pa.table({"text": repeated, "label": labels}), path, compression="zstd")


def _pickles(folder: Path) -> None:
    rows = [("a good text", 1), ("a bad text", 0)] * 20
    contents = {
        "executes": pickle.dumps(_Executes()),
        "executes inside": pickle.dumps([*rows, _Executes()]),
        "deep": b"\x80\x04" + b"(" * 400_000 + b"t" * 400_000 + b".",
        "deep lists": b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b".",
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
        "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "long integer": b"\x80\x04\x8b" + struct.pack("<i", 2**30) + b"\1.",
        "memo": b"\x80\x04Nr" + struct.pack("<I", 2**31 - 1) + b".",
        "global": b"cposix\nsystem\n(S'touch ../outside/executed'\ntR.",
        "persistent": b"\x80\x04Pid\n.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"].",
        "empty": b"",
        "number": pickle.dumps(7),
        "rows": pickle.dumps(rows),
        "doubled": _doubled_pickle(),
    }
    for name, content in contents.items():
        (folder / f"{name}.pkl.gz").write_bytes(gzip.compress(content, 1))


def _doubled_pickle() -> bytes:
    """Return a pickle of lists that contain the list before them twice."""
    value: list[Any] = ["x" * 1000]
    for _ in range(40):
        value = [value, value]
    return pickle.dumps(value)


def _tars(folder: Path) -> None:
    def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
        info = tarfile.TarInfo(name)
        info.type = kind
        block = bytearray(info.tobuf())
        block[124:136] = size.ljust(12, b"\0")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block)

    names = ("../../outside/created", "/outside/created", "aclImdb/train/pos/1_9.txt", "a" * 90)
    contents = {
        "negative size": header(names[2], b"-0000000001"),
        "binary negative size": header(names[2], b"\xff" * 12),
        "huge size": header(names[2], b"77777777777"),
        "binary size": header(names[2], b"\x80" + b"\xff" * 11),
        "letters": header(names[2], b"size"),
        "digits": _with_extended(header, b"%d size=%s\n", b"9" * 5000),
        "negative extended": _with_extended(header, b"%d size=%s\n", b"-1"),
        "long name": header(names[3], b"77777777777", b"L"),
        "path": header(names[0], b"00000000000"),
        "absolute": header(names[1], b"00000000000"),
        "link": header(names[2], b"00000000000", b"2"),
        "sparse": header(names[2], b"00000000010", b"S"),
        "empty": b"",
    }
    for name, content in contents.items():
        (folder / f"{name}.tar.gz").write_bytes(gzip.compress(content + bytes(1024), 1))


def _with_extended(header: Any, form: bytes, value: bytes) -> bytes:
    body = b" size=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    record = form % (length, value)
    padded = record.ljust(-(-len(record) // 512) * 512, b"\0")
    name = "aclImdb/train/pos/1_9.txt"
    return bytes(header("pax", b"%011o" % len(record), b"x") + padded + header(name, b"0000000001"))


def tar_of_reviews(count: int) -> bytes:
    """Return an archive with the structure of the Large Movie Review Dataset."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for split in ("train", "test"):
            for number in range(count):
                label = ("neg", "pos")[number % 2]
                text = f"this is {('bad', 'good')[number % 2]} number {number} of {split}".encode()
                info = tarfile.TarInfo(f"aclImdb/{split}/{label}/{number}_{number % 10}.txt")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
    return file.getvalue()
