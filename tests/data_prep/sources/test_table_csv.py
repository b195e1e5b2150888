from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.factory import open_source

Reviews = list[tuple[str, int]]
WriteCsv = Callable[..., Path]


def read(path: Path, **fields: Any) -> list[Document]:
    config = DataConfig(source="csv", path=path, **fields)
    return list(open_source(config, cache_dir=path.parent).documents())


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.csv.gz", "misnamed.gz.csv"])
def test_yields_rows_unchanged(write_csv: WriteCsv, reviews: Reviews, name: str) -> None:
    documents = read(write_csv(reviews, name=name))
    assert [(each.text, each.label) for each in documents] == reviews
    assert [each.id for each in documents][:2] == ["row 1", "row 2"]


def test_reads_named_columns_and_classes(write_csv: WriteCsv) -> None:
    path = write_csv([(7, "bad", "awful"), (8, "good", "fine")], ["id", "verdict", "body"])
    documents = read(path, text_column="body", label_column="verdict", classes=["bad", "good"])
    assert [(each.text, each.label) for each in documents] == [("awful", 0), ("fine", 1)]


def test_reads_text_longer_than_the_csv_modules_default_limit(write_csv: WriteCsv) -> None:
    assert len(read(write_csv([("word " * 50_000, 1)]))[0].text) == 250_000


def test_ignores_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\n\r\nfine,1\r\n\r\n")
    assert [each.text for each in read(path)] == ["fine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"r\.csv is empty\. It needs a header"),
        (b"text,label\n", "has no rows. It needs labelled documents"),
        (
            b"txt,label\nfine,1\n",
            r"no column 'text' \(did you mean 'txt'\?.*\. Its .*Set data",
        ),
        (b"text,stars\nfine,1\n", "no column 'label'. Its columns.*Set data.label_column"),
        (
            b"text,text,label\na,b,1\n",
            r"has 2 columns 'text'. Rename all but the one .*text_column",
        ),
        (
            "text,label\n".encode("utf-16"),
            r"line 1: byte 0xff in the header is not valid UTF-8. Save",
        ),
        (b"text,label\nfine,1\nawful,2\n", r"row 2 \(line 3\): the label .* is '2'\. .*'0', '1'"),
        (b"text,label\nfine,\n", r"row 1 .* label in column 'label' is empty. Remove the row or"),
        (b'text,label\nfine,1\n"  ",0\n', r"row 2 \(line 3\): the text .* is empty"),
        (b"text,label\nfine\n", r"row 1 \(line 2\): the row has too few cells: 1, .* names 2"),
        (b"text,label\na,b,1\n", "row 1 .* has too many cells: 3"),
        (
            b"text,label\nfine,1\nsch\xf6n,1\n",
            "row 2 .* byte 0xf6 at character 4 .* is not valid UTF-8",
        ),
        (b'text,label\n"fine,1\nawful,0\n', "line 3: this is not valid CSV .*Quote every cell"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_error_of_invalid_file_names_row_and_fix(
    tmp_path: Path, content: bytes, message: str, zipped: bool
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_rejects_label_that_is_no_class(write_csv: WriteCsv) -> None:
    with pytest.raises(
        DataError, match=r"is 'Pos'\. Allowed are 'neg', 'pos'\. .*: `data\.classes: \[Pos\]`"
    ):
        read(write_csv([("fine", "Pos")]), classes=["neg", "pos"])


def test_error_of_a_label_lists_all_labels_of_the_column(write_csv: WriteCsv) -> None:
    path = write_csv([("a", "差"), ("b", " 3-4"), ("c", "3-4"), ("d", "1-2")])
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.lines == [
        f"{path} has 4 problems:",
        "  4 labels are no classes: row 1 (line 2) '差', row 2 (line 3) '3-4', row 3 (line 4) "
        "'3-4' and 1 more. Correct the labels, or set data.classes to the labels of the column, "
        "in class order: `data.classes: ['1-2', '3-4', '差']`.",
    ]
    with pytest.raises(DataError, match=rf"is '{'x' * 77}…'\. Allowed"):
        read(write_csv([("a", "x" * 99)]))
    path = write_csv([("a", f"label {number}") for number in range(30)])
    with pytest.raises(DataError, match=r"30 labels .* more than 20 labels\. .*label_column"):
        read(path)


def test_rejects_truncated_gzip(write_csv: WriteCsv) -> None:
    path = write_csv([(f"review {i}", i % 2) for i in range(500)], name="r.csv.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"r\.csv\.gz is damaged or truncated"):
        read(path)


def test_rejects_gzip_with_flipped_byte(write_csv: WriteCsv) -> None:
    path = write_csv([(f"review {i}", i % 2) for i in range(500)], name="r.csv.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or truncated .*CRC"):
        read(path)


def test_rejects_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv does not exist .*Set data\.path"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"is a folder, but data\.path must be a file"):
        read(tmp_path)


def test_digest_depends_on_the_content(write_csv: WriteCsv, reviews: Reviews) -> None:
    def digest(path: Path) -> str:
        config = DataConfig(source="csv", path=path)
        return open_source(config, cache_dir=path.parent).digest()

    same = write_csv(reviews, name="a.csv"), write_csv(reviews, name="b.csv")
    assert digest(same[0]) == digest(same[1]) != digest(write_csv(reviews[1:], name="c.csv"))
