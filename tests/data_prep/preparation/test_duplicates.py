from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.duplicates import compare_splits
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.sources.base import Document

WriteCsv = Callable[..., Path]
TEXTS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


def rows(texts: list[str]) -> list[Document]:
    return [Document(f"row {n}", text, 0, None) for n, text in enumerate(texts)]


@given(TEXTS, TEXTS, TEXTS, st.booleans())
def test_what_is_dropped_leaves_no_duplicate(
    train: list[str], valid: list[str], test: list[str], drop: bool
) -> None:
    found = compare_splits(rows(train), rows(valid), rows(test), drop=drop)
    assert found.duplicates["train_valid"] == sum(text in valid for text in train)
    assert found.duplicates["train_test"] == sum(text in test for text in train)
    assert found.duplicates["valid_test"] == sum(text in test for text in valid)
    parts = [[row.text for row in part] for part in (found.train, found.valid, found.test)]
    if not drop:
        assert parts == [train, valid, test]
        return
    assert parts[2] == test
    assert parts[1] == [text for text in valid if text not in test]
    assert parts[0] == [text for text in train if text not in test and text not in valid]
    lost = len(train) + len(valid) - len(parts[0]) - len(parts[1])
    assert found.duplicates["dropped"] == lost


@pytest.fixture
def opened(tmp_path: Path, write_csv: WriteCsv) -> Callable[..., PreparedData]:
    path = write_csv([(f"review{i} text", i % 2) for i in range(20)])
    test = write_csv([(f"review{i} text", i % 2) for i in range(15, 30)], name="test.csv")

    def open_it(**fields: Any) -> PreparedData:
        config = DataConfig(source="csv", path=path, test_path=test, valid_size=6, **fields)
        data = prepare(config, cache_dir=tmp_path / "cache")
        part = prepare_test(config, cache_dir=tmp_path / "cache")
        assert len(part.split) == 15
        info = part.info
        assert info["also_in_train"] + info["also_in_valid"] == (  # type: ignore[operator]
            0 if fields else 5
        )
        return data

    return open_it


def test_duplicates_are_reported(opened: Callable[..., PreparedData]) -> None:
    data = opened()
    assert (len(data.train), len(data.valid)) == (14, 6)
    # Nothing is said of a test part that wasn't read.
    assert data.info["duplicates"] == {"train_valid": 0, "dropped": 0}


def test_duplicates_are_dropped_if_asked_for(opened: Callable[..., PreparedData]) -> None:
    data = opened(duplicates="drop")
    assert len(data.train) + len(data.valid) == 15
    found = data.info["duplicates"]
    assert isinstance(found, dict)
    assert found["dropped"] == 5


def test_what_is_reported_does_not_depend_on_who_prepared_it(
    write_csv: WriteCsv, tmp_path: Path
) -> None:
    path = write_csv([(f"review{i % 9}", i % 2) for i in range(40)])
    for name, fields in (("file", {"test_path": path}), ("share", {"test_size": 0.25})):
        config = DataConfig(source="csv", path=path, valid_size=8, **fields)
        alone = prepare(config, cache_dir=tmp_path / name).info
        prepare_test(config, cache_dir=tmp_path / f"{name} with test")
        assert prepare(config, cache_dir=tmp_path / f"{name} with test").info == alone
        found = alone["duplicates"]
        assert isinstance(found, dict)
        assert ("train_test" in found) == (name == "share")


def test_a_part_that_would_be_empty_is_refused(write_csv: WriteCsv, tmp_path: Path) -> None:
    path = write_csv([(f"review{i}", i % 2) for i in range(20)])
    config = DataConfig(source="csv", path=path, test_path=path, valid_size=6, duplicates="drop")
    with pytest.raises(DataError, match="dropping duplicates leaves no review to train on"):
        prepare(config, cache_dir=tmp_path / "cache")


def test_the_test_part_is_the_same_from_a_full_cache_and_an_empty_one(
    write_csv: WriteCsv, tmp_path: Path
) -> None:
    path = write_csv([(f"review{i % 9} text{i}", i % 2) for i in range(40)])
    config = DataConfig(source="csv", path=path, test_size=0.25, valid_size=8, max_tokens=1)
    at_once = prepare_test(config, cache_dir=tmp_path / "a")
    prepare(config, cache_dir=tmp_path / "b")
    later = prepare_test(config, cache_dir=tmp_path / "b")
    assert at_once.fingerprint == later.fingerprint
    assert at_once.info == later.info
    assert (at_once.split.ids == later.split.ids).all()
    assert (at_once.split.labels == later.split.labels).all()
    assert later.split.lengths.max() == 1


def test_a_config_without_a_test_part_says_so(write_csv: WriteCsv, tmp_path: Path) -> None:
    config = DataConfig(source="csv", path=write_csv([("a", 0), ("b", 1)] * 5))
    with pytest.raises(DataError, match=r"names no test part; set data\.test_path .*test_size"):
        prepare_test(config, cache_dir=tmp_path)
