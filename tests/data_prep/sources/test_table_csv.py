from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.base import Document
from celltune.data_prep.sources.registry import open_source

Reviews = list[tuple[str, int]]
WriteCsv = Callable[..., Path]


def read(path: Path, **fields: Any) -> list[Document]:
    config = DataConfig(source="csv", path=path, **fields)
    return list(open_source(config, cache_dir=path.parent).documents())


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.csv.gz", "misnamed.gz.csv"])
def test_rows_come_as_they_were_written(write_csv: WriteCsv, reviews: Reviews, name: str) -> None:
    rows = read(write_csv(reviews, name=name))
    assert [(row.text, row.label) for row in rows] == reviews
    assert [row.id for row in rows][:2] == ["row 1", "row 2"]


def test_columns_and_classes_go_by_name(write_csv: WriteCsv) -> None:
    path = write_csv([(7, "bad", "awful"), (8, "good", "fine")], ["id", "verdict", "body"])
    rows = read(path, text_column="body", label_column="verdict", classes=["bad", "good"])
    assert [(row.text, row.label) for row in rows] == [("awful", 0), ("fine", 1)]


def test_a_review_may_be_longer_than_csv_allows_by_default(write_csv: WriteCsv) -> None:
    assert len(read(write_csv([("word " * 50_000, 1)]))[0].text) == 250_000


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\n\r\nfine,1\r\n\r\n")
    assert [row.text for row in read(path)] == ["fine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"r\.csv is empty; it needs a header"),
        (b"text,label\n", "has no rows; it needs labelled reviews"),
        (
            b"txt,label\nfine,1\n",
            r"no column 'text' \(did you mean 'txt'\?.*; its .*Set data",
        ),
        (b"text,stars\nfine,1\n", "no column 'label'; its columns.*Set data.label_column"),
        (
            b"text,text,label\na,b,1\n",
            r"has 2 columns 'text'; rename all but the one .*text_column",
        ),
        ("text,label\n".encode("utf-16"), r"line 1: byte 0xff in the header isn't utf-8; save"),
        (b"text,label\nfine,1\nawful,2\n", r"row 2 \(line 3\): the label .* is '2'; .*'0', '1'"),
        (b"text,label\nfine,\n", r"row 1 .* label in column 'label' is ''"),
        (b'text,label\nfine,1\n"  ",0\n', r"row 2 \(line 3\): the review .* is empty"),
        (b"text,label\nfine\n", r"row 1 \(line 2\) is short: it has 1 cells .* names 2"),
        (b"text,label\na,b,1\n", "row 1 .* is too long: it has 3 cells"),
        (b"text,label\nfine,1\nsch\xf6n,1\n", "row 2 .* byte 0xf6 at character 4 .* isn't utf-8"),
        (b'text,label\n"fine,1\nawful,0\n', "line 3: this isn't csv .*quote every cell"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_files_are_refused_by_name_row_and_mend(
    tmp_path: Path, content: bytes, message: str, zipped: bool
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_label_outside_named_classes_is_refused(write_csv: WriteCsv) -> None:
    with pytest.raises(DataError, match=r"is 'Pos'; allowed are 'neg', 'pos'.*or data\.classes"):
        read(write_csv([("fine", "Pos")]), classes=["neg", "pos"])


def test_a_gzip_that_was_cut_short_is_refused(write_csv: WriteCsv) -> None:
    path = write_csv([(f"review {i}", i % 2) for i in range(500)], name="r.csv.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"r\.csv\.gz is damaged or cut short"):
        read(path)


def test_a_gzip_with_a_flipped_byte_is_refused(write_csv: WriteCsv) -> None:
    path = write_csv([(f"review {i}", i % 2) for i in range(500)], name="r.csv.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or cut short .*CRC"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv doesn't exist .*set data\.path"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a folder; source csv needs a file"):
        read(tmp_path)


def test_the_digest_follows_the_content(write_csv: WriteCsv, reviews: Reviews) -> None:
    def digest(path: Path) -> str:
        config = DataConfig(source="csv", path=path)
        return open_source(config, cache_dir=path.parent).digest()

    same = write_csv(reviews, name="a.csv"), write_csv(reviews, name="b.csv")
    assert digest(same[0]) == digest(same[1]) != digest(write_csv(reviews[1:], name="c.csv"))
