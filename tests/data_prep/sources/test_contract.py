"""What every source promises, whatever its format."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.sources.base import Source
from celltune.data_prep.sources.registry import open_source
from tests.data_prep.formats import FORMATS, Review, Write

REVIEWS: list[Review] = [
    ("a fine film , really", 1),
    ('it was dull ,\nand "long"', 0),
    ("gut gemacht: schön!\tüber 😀 \u2028", 1),
    ("not good at all", 0),
    ("never again <br />", 0),
    ("I laughed. I cried.", 1),
]

every_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS.keys())


def opened(config: DataConfig) -> Source:
    return open_source(config, cache_dir=Path("unused"))


@every_format
def test_texts_and_labels_come_as_they_were_written(write: Write, tmp_path: Path) -> None:
    source = opened(write(tmp_path, REVIEWS))
    rows = list(source.documents())
    assert sorted((row.text, row.label) for row in rows) == sorted(REVIEWS)
    assert len({row.id for row in rows}) == len(rows)
    assert {row.split for row in rows} == {"train"}
    assert len(source.classes) == 2


@every_format
def test_two_readings_give_the_same(write: Write, tmp_path: Path) -> None:
    config = write(tmp_path, REVIEWS)
    assert list(opened(config).documents()) == list(opened(config).documents())
    assert opened(config).digest() == opened(config).digest()


@every_format
def test_the_digest_follows_the_content_and_not_the_place(write: Write, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, other = write(tmp_path / "a", REVIEWS), write(tmp_path / "b", REVIEWS[1:])
    assert opened(first).digest() != opened(other).digest()
    moved = (first.path or tmp_path).rename(tmp_path / (first.path or tmp_path).name)
    assert opened(first.model_copy(update={"path": moved})).digest() != opened(other).digest()


@every_format
def test_every_format_prepares(write: Write, tmp_path: Path) -> None:
    config = write(tmp_path, REVIEWS * 3).model_copy(update={"valid_size": 4})
    data = prepare(config, cache_dir=tmp_path / "cache")
    assert (len(data.train), len(data.valid)) == (14, 4)


@every_format
def test_a_blank_review_is_refused_by_name(write: Write, tmp_path: Path) -> None:
    config = write(tmp_path, [*REVIEWS, (" \t ", 0)])
    with pytest.raises(DataError, match=r"(row 7|6_5\.txt|neg/books/\d).*: the review .*is empty"):
        list(opened(config).documents())


@every_format
def test_a_file_that_is_missing_or_empty_is_refused(write: Write, tmp_path: Path) -> None:
    config = write(tmp_path, REVIEWS)
    missing = config.model_copy(update={"path": tmp_path / "none"})
    with pytest.raises(DataError, match=r"none doesn't exist .*; set data\.path to a file"):
        opened(missing)
    if (path := config.path) is None or path.is_dir():
        return
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"is empty; .*needs|is damaged or cut short"):
        list(opened(config).documents())


@every_format
def test_a_file_that_was_cut_is_refused(write: Write, tmp_path: Path) -> None:
    config = write(tmp_path, REVIEWS * 50)
    path = config.path or tmp_path
    if path.suffix not in (".gz", ".parquet"):
        return
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"is damaged or cut short|isn't a whole parquet file"):
        list(opened(config).documents())
