"""Tables that someone made to break a reader give a reference's rows or a `DataError`."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources import rows as checked_rows
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.tables import parquet
from celltune.data_prep.tables import separated as readers

Rows = list[tuple[str, str]]
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ['"', 'a "b" c', "a,b", "a\tb", "a\r\nb", "\ufeff", "\0", "=1+1", " x ", "\u2028", "NaN"]
)
rows_of_table = st.lists(
    st.tuples(texts.filter(lambda text: bool(text.strip())), st.sampled_from(["0", "1"])),
    min_size=1,
    max_size=6,
)
fuzzed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, deadline=None
)


def read(path: Path, **keys: Any) -> Rows:
    config = DataConfig(source=path.name.split(".")[1], path=path, **keys)
    documents = open_source(config, cache_dir=path.parent).documents()
    return [(document.text, str(document.label)) for document in documents]


def separated(rows: Rows, delimiter: str, **dialect: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, **dialect).writerows([("text", "label"), *rows])
    return text.getvalue().encode()


def lines(rows: Rows) -> bytes:
    return "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows).encode()


def arrow(rows: Rows, **options: Any) -> bytes:
    file = io.BytesIO()
    names, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"text": list(names), "label": list(labels)}), file, **options)
    return file.getvalue()


@fuzzed
@given(
    rows=rows_of_table,
    delimiter=st.sampled_from([",", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    pack=st.sampled_from([bytes, gzip.compress]),
)
def test_valid_separated_values_are_read_exactly(
    tmp_path: Path,
    rows: Rows,
    delimiter: str,
    quoting: Any,
    end: str,
    start: bytes,
    pack: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / f"r.{'csv' if delimiter == ',' else 'tsv'}"
    path.write_bytes(pack(start + separated(rows, delimiter, quoting=quoting, lineterminator=end)))
    assert read(path) == rows


@fuzzed
@given(rows=rows_of_table)
def test_valid_json_lines_and_parquet_files_are_read_exactly(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "r.jsonl").write_bytes(lines(rows))
    (tmp_path / "r.parquet").write_bytes(arrow(rows, row_group_size=3))
    assert read(tmp_path / "r.jsonl") == read(tmp_path / "r.parquet") == rows


ROWS = [("a fine film", "1"), ('dull, "long"\nand late', "0"), ("schön & gut", "1")]
CODECS = ("none", "snappy", "gzip", "zstd")
FILES = {
    "r.csv": separated(ROWS, ","),
    "r.tsv": separated(ROWS, "\t"),
    "r.jsonl": lines(ROWS),
    "r.csv.gz": gzip.compress(separated(ROWS, ",")),
    **{f"{codec}.parquet": arrow(ROWS, compression=codec) for codec in CODECS},
    "prefixes.parquet": arrow(
        ROWS, use_dictionary=False, column_encoding=dict.fromkeys(["text"], "DELTA_BYTE_ARRAY")
    ),
    "pages.parquet": arrow(ROWS, data_page_version="2.0", row_group_size=1),
}


def separated_reference(content: bytes, delimiter: str) -> Iterator[list[str]]:
    text = content.decode("utf-8-sig", "surrogateescape")
    table = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header, *rows = filter(None, table)
    names = [name.strip() for name in header]
    return ([row[names.index("text")], row[names.index("label")].strip()] for row in rows)


def lines_reference(content: bytes) -> Iterator[list[str]]:
    for line in io.StringIO(content.decode("utf-8-sig"), newline=""):
        if line.strip():
            record = json.loads(line)
            yield [record["text"], str(record["label"]).strip()]


def arrow_reference(content: bytes) -> Iterator[list[str]]:
    for row in pq.ParquetFile(io.BytesIO(content)).read(columns=["text", "label"]).to_pylist():
        yield [str(row["text"]), str(row["label"]).strip()]


REFERENCES: dict[str, Callable[[bytes], Iterator[list[str]]]] = {
    ".csv": lambda content: separated_reference(content, ","),
    ".tsv": lambda content: separated_reference(content, "\t"),
    ".jsonl": lines_reference,
    ".parquet": arrow_reference,
}
edits = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.integers(0, 3),
        st.binary(max_size=3) | st.sampled_from([b'"', b",", b"\n", b"\r", b"\0" * 4, b"9" * 5000]),
    ),
    min_size=1,
    max_size=3,
)


@settings(fuzzed, max_examples=300)
@given(name=st.sampled_from(sorted(FILES)), edits=edits)
def test_changed_file_gives_what_the_reference_reads_or_a_data_error(
    tmp_path: Path, name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    content = FILES[name]
    for position, removed, inserted in edits:
        at = position % (len(content) + 1)
        content = content[:at] + inserted + content[at + removed :]
    (path := tmp_path / name).write_bytes(content)
    try:
        rows = read(path)
    except DataError:
        return
    if name.endswith(".gz"):
        content, path = gzip.decompress(content), path.with_suffix("")
    assert rows == list(map(tuple, REFERENCES[path.suffix](content)))


def test_number_of_documents_is_limited_in_every_format(tmp_path: Path) -> None:
    rows = [("fine", "1")] * 40
    for name, content in (
        ("r.csv", separated(rows, ",")),
        ("r.jsonl", lines(rows)),
        ("r.parquet", arrow(rows)),
    ):
        (path := tmp_path / name).write_bytes(content)
        assert len(read(path, max_bytes=40 * 256)) == 40
        message = r"more than 39 documents\. .* data\.max_bytes .* one document per 256 bytes\.$"
        with pytest.raises(DataError, match=message):
            read(path, max_bytes=40 * 256 - 1)


@pytest.mark.parametrize("cells", [b'"' + b"xxxx\n" * 250, b'"\na",b,' * 200], ids=["long", "many"])
def test_long_row_of_many_lines_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: bytes
) -> None:
    monkeypatch.setattr(readers, "MAX_DOCUMENT_BYTES", 1000)
    (path := tmp_path / "r.csv").write_bytes(b"text,label\nfine,1\n\n" + cells)
    with pytest.raises(
        DataError, match=r"r\.csv, line 4: the row, in which a quote may be missing, is longer"
    ):
        read(path)


def test_rows_of_any_number_are_read_if_none_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_DOCUMENT_BYTES", 30)
    (path := tmp_path / "r.csv").write_bytes(b"text,label\n" + b'"a fine\nfilm",1\n\n' * 50)
    assert len(read(path)) == 50


def test_number_of_pages_of_a_parquet_file_is_limited(tmp_path: Path) -> None:
    rows = {"text": ["fine"] * 100, "label": ["1"] * 100}
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table(rows), path, use_dictionary=False, data_page_size=1, write_batch_size=1)
    assert len(read(path, max_bytes=200 * 1024)) == 100
    with pytest.raises(DataError, match=r"more than 199 pages\. .* one page per 1024 bytes\.$"):
        read(path, max_bytes=200 * 1024 - 1)


def test_long_text_of_a_parquet_file_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_rows, "MAX_DOCUMENT_BYTES", 1000)
    (path := tmp_path / "r.parquet").write_bytes(arrow([("x" * 1001, "1")]))
    with pytest.raises(
        DataError, match=r"row 1: the text in column 'text' is longer than 1,000 bytes"
    ):
        read(path)


def test_texts_that_parquet_repeats_are_counted_every_time(tmp_path: Path) -> None:
    text = "x" * 100_000
    (path := tmp_path / "r.parquet").write_bytes(arrow([(text, "1")] * 300))
    assert path.stat().st_size < 20_000
    assert read(path, max_bytes=31_000_000) == [(text, "1")] * 300
    with pytest.raises(DataError, match=r"contains more than 20,000,000 bytes"):
        read(path, max_bytes=20_000_000)


def test_pages_of_a_parquet_file_are_measured_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = arrow([("x" * 5_000_000, "1")], compression="zstd", use_dictionary=False)
    (path := tmp_path / "r.parquet").write_bytes(content)
    assert len(content) < 10_000
    monkeypatch.setattr(parquet, "_text_as_bytes", lambda _: pytest.fail("a page was read"))
    with pytest.raises(DataError, match=r"contains more than 4,999,999 bytes"):
        read(path, max_bytes=4_999_999)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b",".join([b"a"] * 1000) + b"\n", r"'a' and 980 others\. Set data\.text_column"),
        ("r.csv", b"\x1b[2J,label\n", r"Its columns are '\\x1b\[2J', 'label'\. Set"),
        ("r.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "an integer has thousands of digits"),
        ("r.jsonl", b"[" * 100_000, "is not valid JSON"),
        ("r.parquet", b"PAR1" + b"\xff" * 4 + b"PAR1", "is not a complete Parquet file"),
        ("r.parquet", b"PAR1" + b"\0" * 12 + b"PAR1", "is not a complete Parquet file"),
    ],
)
def test_message_is_short_and_printable(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (path := tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert len(str(error.value)) < 500 + len(str(path))
    assert str(error.value).isprintable()
