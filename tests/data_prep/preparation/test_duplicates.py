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
from celltune.data_prep.preparation.duplicates import compare_splits, duplicates_notes
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.sources.base import Document

WriteCsv = Callable[..., Path]
TEXTS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


def documents_of(texts: list[str]) -> list[Document]:
    return [Document(f"row {n}", text, 0, None) for n, text in enumerate(texts)]


@given(TEXTS, TEXTS, TEXTS, st.booleans())
def test_drop_leaves_no_duplicate(
    train: list[str], valid: list[str], test: list[str], drop: bool
) -> None:
    result = compare_splits(documents_of(train), documents_of(valid), documents_of(test), drop=drop)
    assert result.duplicates["train_valid"] == sum(text in valid for text in train)
    assert result.duplicates["train_test"] == sum(text in test for text in train)
    assert result.duplicates["valid_test"] == sum(text in test for text in valid)
    texts = [[each.text for each in split] for split in (result.train, result.valid, result.test)]
    if not drop:
        assert texts == [train, valid, test]
        return
    assert texts[2] == test
    assert texts[1] == [text for text in valid if text not in test]
    assert texts[0] == [text for text in train if text not in test and text not in valid]
    dropped = len(train) + len(valid) - len(texts[0]) - len(texts[1])
    assert result.duplicates["dropped"] == dropped


LABELLED = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2)), max_size=12)


@given(LABELLED, LABELLED, LABELLED)
def test_texts_with_two_labels_are_counted(
    train: list[tuple[str, int]], valid: list[tuple[str, int]], test: list[tuple[str, int]]
) -> None:
    splits = [
        [Document(f"row {n}", f" {text}", label, None) for n, (text, label) in enumerate(split)]
        for split in (train, valid, test)
    ]
    found = compare_splits(*splits, drop=False).duplicates["conflicting"]
    known = [*train, *valid]
    labels = {text: {label for other, label in known if other == text} for text, _ in known}
    assert found == sum(len(labels[text]) > 1 for text, _ in known)


def test_duplicates_are_explained_unless_they_are_few_or_dropped() -> None:
    counts = {"train_valid": 47, "valid_test": 3, "conflicting": 20}
    leak, conflict = duplicates_notes(counts, train=800, valid=200)
    assert "(47 of train in valid, 3 of valid in test)" in leak
    assert "Set data.duplicates to drop" in leak
    assert conflict.startswith("20 of 1,000 documents have a text that also occurs with another")
    assert duplicates_notes({**counts, "dropped": 50}, train=800, valid=200) == [conflict]
    few = {"train_valid": 1, "train_test": 0, "conflicting": 19, "dropped": 0}
    assert duplicates_notes(few, train=800, valid=200) == []
    assert duplicates_notes({}, train=8, valid=2) == []


@pytest.fixture
def prepare_both(tmp_path: Path, write_csv: WriteCsv) -> Callable[..., PreparedData]:
    path = write_csv([(f"review{i} text", i % 2) for i in range(20)])
    test = write_csv([(f"review{i} text", i % 2) for i in range(15, 30)], name="test.csv")

    def prepare_splits(**fields: Any) -> PreparedData:
        config = DataConfig(source="csv", path=path, test_path=test, valid_size=6, **fields)
        data = prepare(config, cache_dir=tmp_path / "cache")
        test_data = prepare_test(config, cache_dir=tmp_path / "cache")
        assert len(test_data.split) == 15
        info = test_data.info
        assert info["also_in_train"] + info["also_in_valid"] == (  # type: ignore[operator]
            0 if fields else 5
        )
        return data

    return prepare_splits


def test_duplicates_are_reported(prepare_both: Callable[..., PreparedData]) -> None:
    data = prepare_both()
    assert (len(data.train), len(data.valid)) == (14, 6)
    # `prepare` does not read a separate test split, so it cannot count its duplicates.
    assert data.info["duplicates"] == {"train_valid": 0, "conflicting": 0, "dropped": 0}


def test_duplicates_are_dropped_if_configured(prepare_both: Callable[..., PreparedData]) -> None:
    data = prepare_both(duplicates="drop")
    assert len(data.train) + len(data.valid) == 15
    found = data.info["duplicates"]
    assert isinstance(found, dict)
    assert found["dropped"] == 5


def test_reported_duplicates_do_not_depend_on_preparing_the_test_split(
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


def test_rejects_split_of_duplicates_only(write_csv: WriteCsv, tmp_path: Path) -> None:
    path = write_csv([(f"review{i}", i % 2) for i in range(20)])
    config = DataConfig(source="csv", path=path, test_path=path, valid_size=6, duplicates="drop")
    with pytest.raises(DataError, match="dropping duplicates, no document is left to train on"):
        prepare(config, cache_dir=tmp_path / "cache")


def test_test_split_does_not_depend_on_the_cache(write_csv: WriteCsv, tmp_path: Path) -> None:
    path = write_csv([(f"review{i % 9} text{i}", i % 2) for i in range(40)])
    config = DataConfig(source="csv", path=path, test_size=0.25, valid_size=8, max_tokens=1)
    in_one_pass = prepare_test(config, cache_dir=tmp_path / "a")
    prepare(config, cache_dir=tmp_path / "b")
    separately = prepare_test(config, cache_dir=tmp_path / "b")
    assert in_one_pass.fingerprint == separately.fingerprint
    assert in_one_pass.info == separately.info
    assert (in_one_pass.split.ids == separately.split.ids).all()
    assert (in_one_pass.split.labels == separately.split.labels).all()
    assert separately.split.lengths.max() == 1


def test_rejects_config_without_test_split(write_csv: WriteCsv, tmp_path: Path) -> None:
    config = DataConfig(source="csv", path=write_csv([("a", 0), ("b", 1)] * 5))
    with pytest.raises(DataError, match=r"defines no test split\. Set data\.test_path .*test_size"):
        prepare_test(config, cache_dir=tmp_path)
