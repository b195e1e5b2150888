"""The survey of a data set agrees with what `prepare` makes of it."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.data_prep.preparation.survey import Survey, survey

Rows = Sequence[tuple[str, str]]
WORDS = ["good", "bad", "plot", "film", "the", "a", "an", "is", "was", "very", "not", "so", "café"]


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., DataConfig]:
    def make(rows: Rows, test: Rows = (), **fields: Any) -> DataConfig:
        for name, content in (("train.csv", rows), ("test.csv", test)):
            with (tmp_path / name).open("w", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *content])
        paths = {"path": tmp_path / "train.csv"}
        if test:
            paths["test_path"] = tmp_path / "test.csv"
        return DataConfig(source="csv", **paths, **fields)

    return make


def random_rows(count: int, seed: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(count)]
    return [(text, str(int(index % 3 == 0))) for index, text in enumerate(texts)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tokenizer": "whitespace", "vocabulary_size": 5, "lowercase": True},
        {"tokenizer": "bpe", "vocabulary_size": 30, "min_count": 2},
        {"duplicates": "drop", "valid_size": 20},
        {"train_size": 30, "keep": "both"},
    ],
    ids=str,
)
def test_survey_counts_what_is_prepared(
    config_of: Callable[..., DataConfig], tmp_path: Path, fields: dict[str, Any]
) -> None:
    rows, test = random_rows(90, 1), random_rows(30, 2)
    config = config_of([*rows, *test[:4]], test, max_tokens=12, **fields)
    found = survey(config)
    data = prepare(config, cache_dir=tmp_path / "cache")
    prepared_test = prepare_test(config, cache_dir=tmp_path / "cache")
    splits = {"train": data.train, "valid": data.valid, "test": prepared_test.split}
    assert {name: counts.tolist() for name, counts in found.counts.items()} == {
        name: np.bincount(split.labels, minlength=2).tolist() for name, split in splits.items()
    }
    info: Any = data.info
    assert found.cut == info["train"]["cut_reviews"] + info["valid"]["cut_reviews"] > 0
    lengths = np.concatenate([data.train.lengths, data.valid.lengths])
    assert np.minimum(found.lengths, 12).tolist() == np.sort(lengths).tolist()
    assert found.single == np.sum(lengths == 1)
    assert found.vocabulary_size == data.vocabulary_size
    assert found.unknown_share == info["valid"]["unknown_share"]
    assert found.majority == data.majority()
    assert found.classes == data.classes
    for split in ("train", "valid"):
        still_there = prepared_test.info[f"also_in_{split}"]
        dropped = config.duplicates == "drop"
        assert still_there == (0 if dropped else found.duplicates[f"{split}_test"])


def test_both_forms_of_unicode_are_one_text(config_of: Callable[..., DataConfig]) -> None:
    composed = [(f"café {'é' * (index + 1)}", str(index % 2)) for index in range(10)]
    decomposed = [(unicodedata.normalize("NFD", text), label) for text, label in composed]
    assert decomposed != composed
    found = survey(config_of(composed, decomposed, valid_size=4))
    assert found.duplicates["train_test"] == 6
    assert found.duplicates["valid_test"] == 4
    rows = [("café", str(index % 2)) for index in range(8)]
    rows += [(unicodedata.normalize("NFD", "café"), str(index % 2)) for index in range(8)]
    mixed = survey(config_of(rows, valid_size=8))
    assert (mixed.distinct, mixed.unknown_share) == (1, 0.0)


def test_lengths_have_exact_quantiles() -> None:
    lengths = np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55])
    found = Survey(("a", "b"), {}, lengths, 8, 0, 2, 0.0, {})
    assert [found.length_at(share) for share in (0.05, 0.1, 0.5, 0.9, 0.95, 1.0)] == [
        *(1, 1, 5, 34, 55, 55)
    ]
    assert (found.cut, found.single) == (4, 2)
    assert found.kept_share == pytest.approx((1 + 1 + 2 + 3 + 5 + 8 * 5) / 143)


@pytest.mark.parametrize(
    ("rows", "test", "message"),
    [
        ([("a", "0"), ('"', "1")] * 5, (), "5 texts have no tokens"),
        ([("a", "0"), ("b", "1")] * 5, [("c", "0"), ('"', "1")], "the text '\"' has no tokens"),
        ([("a", "0"), ("b", "1")] * 5, [("c", "2")], r"test\.csv.*'2'"),
    ],
)
def test_problems_of_every_split_are_found(
    config_of: Callable[..., DataConfig], rows: Rows, test: Rows, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        survey(config_of(rows, test))
