"""How a file is written is recognized from its content."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.detect import Detected, detect, detect_files
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells

REVIEWS = [
    ("a fine film, really", "pos"),
    ('dull, "long" and late', "neg"),
    ("schön; und gut", "pos"),
    ("über|lang", "neg"),
    ("a film\nin two lines", "pos"),
    ("so-so", "neg"),
]


def separated(delimiter: str, *, header: bool = True, **dialect: object) -> str:
    text = io.StringIO(newline="")
    rows = [("text", "label"), *REVIEWS] if header else REVIEWS
    csv.writer(text, delimiter=delimiter, **dialect).writerows(rows)  # type: ignore[arg-type]
    return text.getvalue()


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(path: Path, found: Detected) -> list[list[str]]:
    """Read all cells as they were detected."""
    columns = [Column("column", name) for name in found.columns]
    return [cells for _, cells in read_cells(path, found.format, columns)]


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.txt", "r"])
@pytest.mark.parametrize("delimiter", ",;\t|")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "windows-1252"])
def test_separated_values_are_recognized_whatever_the_name(
    tmp_path: Path, name: str, delimiter: str, encoding: str
) -> None:
    path = write(tmp_path / name, separated(delimiter), encoding)
    found = detect(path)
    usual = "utf-8" if encoding == "utf-8-sig" else encoding
    assert found.format == TableFormat("csv", delimiter, True, True, usual)
    assert set(found.reasons) == {"kind", "delimiter", "quoting", "header", "encoding"}
    assert all(found.reasons.values())
    assert found.columns == ("text", "label")
    assert found.rows == read(path, found) == list(map(list, REVIEWS))


@pytest.mark.parametrize("delimiter", ",;\t|")
def test_columns_without_a_header_are_numbered(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path / "r.csv", separated(delimiter, header=False) * 2)
    found = detect(path)
    assert found.format.header is False
    assert found.columns == ("1", "2")
    assert read(path, found) == list(map(list, REVIEWS)) * 2


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_are_recognized(tmp_path: Path, suffix: str) -> None:
    content = separated(";").encode()
    path = write(tmp_path / f"r.csv.{suffix}", PACKERS[suffix](content))
    found = detect(path)
    assert read(path, found) == list(map(list, REVIEWS))
    path.rename(misnamed := tmp_path / "r.csv")
    assert detect(misnamed) == found


def test_stated_delimiter_is_used_and_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "sep=|\ntext|label\na, b|1\nc, d|0\n")
    found = detect(path)
    assert (found.format.delimiter, found.reasons["delimiter"]) == ("|", "the first line is sep=|")
    columns = [Column("column", "text")]
    rows = list(read_cells(path, found.format, columns))
    assert rows == [(" (line 3)", ["a, b"]), (" (line 4)", ["c, d"])]


@pytest.mark.parametrize("name", ["r.csv", "r.txt", "r.data"])
def test_file_with_nothing_but_a_stated_delimiter_is_empty(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "sep=;\n \n")
    with pytest.raises(DataError, match=r"is empty. It needs a table of texts"):
        detect(path)


def test_first_document_of_a_rare_class_is_no_header(tmp_path: Path) -> None:
    rows = ["a fine film for some;unclear", *["dull and late;bad", "a good scene;good"] * 10]
    path = write(tmp_path / "r.csv", "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"whether the first row .* Set data.header to true"):
        detect(path)
    path.write_text("\n".join(["Kommentar;Urteil", *rows]) + "\n")
    assert detect(path).columns == ("Kommentar", "Urteil")


def test_plain_quotes_do_not_merge_rows(tmp_path: Path) -> None:
    rows = ['"Great" they said\tpos', 'He said "no\tneg', '"two\tpos', 'words"\tneg', "fine\tpos"]
    path = write(tmp_path / "r.tsv", "\n".join(["text\tlabel", *rows]) + "\n")
    found = detect(path)
    assert found.format.quoting is False
    assert read(path, found) == [row.split("\t") for row in rows]


def test_rows_that_quotes_would_merge_are_recognized_by_their_labels(tmp_path: Path) -> None:
    others = [("fine", "pos"), ("dull", "neg")] * 5
    rows = [*others, ('"one', "pos"), ("two", "neg"), ('three"', "pos"), *others]
    path = write(tmp_path / "r.tsv", "".join(f"{text}\t{label}\n" for text, label in rows))
    # The quote of the third row ends its cell, so that three rows are one valid row with quoting.
    found = detect(path)
    assert found.format.quoting is False
    assert found.reasons["quoting"] == "lines within quotes are complete rows"
    assert read(path, found) == list(map(list, rows))


def test_long_text_after_a_quote_is_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celltune.data_prep.tables.quoting.MAX_DOCUMENT_BYTES", 100)
    rows = [['"begins', "pos"], *([f"text {n}", ("neg", "pos")[n % 2]] for n in range(50))]
    path = write(tmp_path / "r.tsv", "".join("\t".join(row) + "\n" for row in rows))
    found = detect(path)
    assert found.format.quoting is False
    assert read(path, found) == rows


def test_lines_within_quotes_are_kept_together(tmp_path: Path) -> None:
    rows = [["one, two\nthree, four", "pos"], ["fine", "neg"], ["dull", "pos"]] * 4
    text = "".join(f'"{text}",{label}\n' if "," in text else f"{text},{label}\n"
                   for text, label in rows)  # fmt: skip
    path = write(tmp_path / "r.csv", text)
    found = detect(path)
    assert found.format.quoting is True
    assert read(path, found) == rows


plain_cells = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
    min_size=1,
    max_size=9,
) | st.sampled_from(['"', '"a"', 'a "b"', '"a" b', '"a', 'a"', '""', '"a ""b"" c"', "a, b", "c; d"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, deadline=None,
    max_examples=60,
)  # fmt: skip
@given(
    texts=st.lists(
        plain_cells.filter(lambda text: bool(text.strip("\ufeff "))), min_size=12, max_size=15
    ),
    quoted=st.booleans(),
    every=st.booleans(),
)
def test_rows_are_read_exactly_or_the_setting_is_asked_for(
    tmp_path: Path, texts: list[str], quoted: bool, every: bool
) -> None:
    # A file of enclosed cells is the same as one of texts that look like enclosed cells.
    looks_enclosed = [text for text in texts if len(text) > 1 and text[0] == text[-1] == '"']
    assume(quoted or len(looks_enclosed) * 2 < len(texts))
    assume(quoted or not any('""' in text[1:-1] for text in looks_enclosed))
    rows = [[text, ("neg", "pos")[number % 2]] for number, text in enumerate(texts)]
    if quoted:
        file = io.StringIO(newline="")
        style = csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL
        csv.writer(file, delimiter="\t", quoting=style).writerows(rows)
        content = file.getvalue()
    else:
        content = "".join("\t".join(row) + "\n" for row in rows)
    path = write(tmp_path / "r.tsv", content)
    try:
        found = detect(path, TableFormat(header=False))
    except DataError as error:
        assert "Set data.quoting" in str(error)  # noqa: PT017
        return
    assert read(path, found) == rows


def test_quoting_that_is_not_certain_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "r.tsv", '"a ""b"""\tpos\nc "d" e\tneg\n' * 5)
    with pytest.raises(DataError, match=r"not certain whether double quotes.* Set data\.quoting"):
        detect(path)
    assert detect(path, TableFormat(quoting=True, header=False)).rows[0] == ['a "b"', "pos"]


def test_delimiter_that_is_not_certain_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "r.txt", "a,b;c\nd,e;f\n")
    with pytest.raises(DataError, match=r"comma and semicolon separate .*\. Set data\.delimiter"):
        detect(path, TableFormat("csv"))
    assert detect(path, TableFormat(delimiter=";", header=False)).rows[0] == ["a,b", "c"]


def test_header_that_is_not_certain_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "foo,bar\na,b\n")
    with pytest.raises(DataError, match=r"first row \('foo', 'bar'\) names .*\. Set data\.header"):
        detect(path)
    assert detect(path, TableFormat(header=False)).columns == ("1", "2")


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("0,1", True),
        ("x,y", True),
        (",text,y", True),
        ("Review Text,Stars", True),
        ("a good film,pos", False),
        ("7,a good film", False),
        ("user0,pos", False),
        ("text1,text2", True),
    ],
)
def test_header_is_recognized(tmp_path: Path, first: str, header: bool) -> None:
    bodies = {"7,a good film": "{n},film {n}", ",text,y": "{n},film {n},pos"}
    bodies |= {"user0,pos": "user1{n},pos", "text1,text2": "film {n},pos"}
    default = "film {n},4" if header and first != "x,y" else "film {n},pos"
    body = bodies.get(first, default)
    rows = [body.format(n=n) for n in range(12)]
    found = detect(write(tmp_path / "r.csv", "\n".join([first, *rows])))
    assert found.format.header is header
    assert len(found.rows) == 12 + (not header)


def test_json_lines_have_the_keys_of_all_rows(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "a", "tags": []}, {"text": "b", "label": 1.0}]
    found = detect(write(tmp_path / "r.json", "".join(json.dumps(row) + "\n" for row in rows)))
    assert (found.format.kind, found.columns) == ("jsonl", ("id", "text", "label"))
    assert found.rows == [["1", "a", ""], ["", "b", "1"]]


def test_parquet_has_the_columns_of_plain_values(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None], "tags": [[1], []], "label": [0.0, 1.0]})
    pq.write_table(table, tmp_path / "r.bin")
    found = detect(tmp_path / "r.bin")
    assert (found.format, found.columns) == (TableFormat("parquet"), ("text", "label"))
    assert found.rows == [["a", "0"], ["", "1"]]
    pq.write_table(table.select(["tags"]), tmp_path / "r.bin")
    with pytest.raises(DataError, match="has no column of plain values"):
        detect(tmp_path / "r.bin")


def test_texts_per_line_are_no_table(tmp_path: Path) -> None:
    path = write(tmp_path / "r.txt", "Well, it was fine.\nNo, not at all.\nYes, it was.\n")
    found = detect(path)
    assert (found.format.kind, found.columns) == ("txt", ("1",))
    assert read(path, found)[1] == ["No, not at all."]
    with pytest.raises(DataError, match=r"one text per line, without labels.*set data\.format"):
        next(read_cells(path, found.format, [Column("a", "text"), Column("b", "label")]))


def test_like_decides_what_the_content_leaves_open(tmp_path: Path) -> None:
    train = detect(write(tmp_path / "train.tsv", 'alpha\tbeta\na "b" c\tx\n' + "d\ty\n" * 20))
    assert (train.format.quoting, train.format.header) == (False, True)
    path = write(tmp_path / "test.tsv", "alpha\tbeta\nfoo\tx\n")
    found = detect(path, like=train)
    assert found.format == train.format
    content = '"a ""b"""\tx\nc "d" e\tx\n' * 5
    found = detect(write(tmp_path / "test.tsv", content), like=train)
    assert (found.format.quoting, found.reasons["quoting"]) == (False, "as in the other file")
    other = detect(write(tmp_path / "test.csv", "foo,x\n" * 9), like=train)
    assert (other.format.delimiter, other.format.header) == (",", False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"PK\x03\x04....", "is a zip archive. Unpack it"),
        (b"%PDF-1.7", "is a PDF document. Extract"),
        (b"\xd0\xcf\x11\xe0....", "is an Excel file with a password or of 2003"),
        (b"a\0\0\0b\0\0\0c\0", r"is not a text file: 7 of its first 10 bytes are NUL"),
        ("пример,1\n".encode("cp1251") * 9, r"is not UTF-8 .*Set data\.encoding"),
        ("pi\u0142ka,1\n".encode("cp1250") * 9, r"is not UTF-8 .*Set data\.encoding"),
        (b"{}\n", "contains no JSON object of plain values"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        detect(write(tmp_path / "r.csv", content))


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "text,label\nschön,1\nüber,0\n".encode() + b"caf\xe9,1\n")
    found = detect(path)
    assert found.format.encoding == "utf-8"
    assert found.reasons["encoding"] == "all but 1 bytes are valid"
    assert read(path, found)[2] == ["caf\udce9", "1"]


def test_nul_characters_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "text,label\n" + "fine,1\n" * 100 + "a\0b,0\nc,1\n")
    found = detect(path)
    with pytest.raises(DataError, match=r"row 101 \(line 102\): the row contains a NUL character"):
        read(path, found)
    problems = list[str]()
    columns = [Column("column", "text")]
    rows = read_cells(path, found.format, columns, on_problem=lambda bad: problems.append(bad.kind))
    assert len(list(rows)) == 101
    assert problems == ["rows with NUL characters"]
    lines = write(tmp_path / "r.txt", "fine\na\0b\nso-so\n")
    with pytest.raises(DataError, match=r"r\.txt, row 2 \(line 2\): the row contains a NUL"):
        list(read_cells(lines, TableFormat("txt", encoding="utf-8"), columns))
    assert len(list(read_cells(lines, TableFormat("txt"), columns))) == 3
    old = read_cells(path, TableFormat("csv"), columns)
    assert next(islice(old, 100, None))[1] == ["a\0b"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_few_long_rows_are_examined(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"long.{suffix}"
    texts = ["word " * 300_000] * 40
    records = [{"text": text, "label": "a"} for text in texts]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        lines = "\n".join(map(json.dumps, records))
        path.write_text(lines if suffix == "jsonl" else json.dumps(records))
    rows = detect(path).rows
    assert len(rows) == 6  # 1.5 million characters each


def test_files_that_are_read_as_one_have_to_agree(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", separated(";"))
    second = write(tmp_path / "b.csv", "text;label\nfoo;pos\n")
    found = detect_files([first, second])
    assert found == detect(first)
    write(second, "text,label\nfoo,pos\n" * 2)
    with pytest.raises(DataError, match=r"a\.csv and .*b\.csv .* delimiter ';'.* delimiter ','"):
        detect_files([first, second])
    write(second, "text;stars\nfoo;pos\n")
    with pytest.raises(DataError, match=r"the columns are 'text', 'label' and 'text', 'stars'\."):
        detect_files([first, second])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'["a text"]\n', "contains no JSON object of plain values"),
        ("r.json.gz", b"text,label\nfine,1\n", "contains no JSON object of plain values"),
        ("r.parquet", b"text,label\nfine,1\n", "is not a complete Parquet file"),
        ("r.xlsx", b"text,label\nfine,1\n", "is not a complete Excel workbook"),
        ("r.arrow", b"text,label\nfine,1\n", "is not a complete Arrow file"),
    ],
)
def test_name_of_another_format_is_an_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        detect(path)
    if name != "r.jsonl":
        assert detect(path, TableFormat("csv")).columns == ("text", "label")


def test_encoding_of_the_other_file_is_tried(tmp_path: Path) -> None:
    text = "text,label\n" + "\u0432\u0435\u0449\u044c,\u0434\u0430\n" * 3
    train = detect(write(tmp_path / "a.csv", text, "cp1251"), TableFormat(encoding="cp1251"))
    found = detect(write(tmp_path / "b.csv", text, "cp1251"), like=train)
    assert (found.format.encoding, found.reasons["encoding"]) == ("cp1251", "as in the other file")
    with pytest.raises(DataError, match=r"b\.csv, the file is not valid \(UTF-16 stream does not"):
        detect(tmp_path / "b.csv", TableFormat(encoding="utf-16"))
