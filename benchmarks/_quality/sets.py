"""The data sets of benchmarks/quality.py, as CSV files with the columns text and label."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

AMAZON_FOLDS = 5
"""Each seed tests on another fifth of a domain's 2,000 reviews, and trains on the rest."""
SHORT = 8_000
"""Training reviews whose first sentences, or ratings, form a data set."""

Tables = tuple[pd.DataFrame, pd.DataFrame]
"""The training and the test documents, with the columns text and label."""


@dataclass(frozen=True)
class TextSet:
    """A data set."""

    name: str
    tables: Callable[[Path, int], Tables]
    """Reads it from the data folder, for a seed."""
    classes: tuple[str, ...] | None = None
    """Names of the classes; None: 0 and 1."""


def write_tables(text_set: TextSet, folder: Path, seed: int, output: Path) -> tuple[Path, Path]:
    """Write a data set and return the paths of its training and test file.

    Args:
        text_set: the data set.
        folder: contains the folders imdb and amazon.
        seed: selects the test documents of sets without a separate test file.
        output: the folder of the files.
    """
    output.mkdir(parents=True, exist_ok=True)
    paths = output / "train.csv.gz", output / "test.csv.gz"
    for table, path in zip(text_set.tables(folder, seed), paths, strict=True):
        table[["text", "label"]].to_csv(
            path, index=False, compression={"method": "gzip", "mtime": 0}
        )
    return paths


def _imdb(folder: Path, count: int | None) -> Tables:
    """Return the first training reviews in a fixed random order, and all test reviews."""
    train, test = (pd.read_csv(folder / "imdb" / f"{name}.csv.gz") for name in ("train", "test"))
    return train.sample(frac=1.0, random_state=1).head(count or len(train)), test


def _reviews(count: int | None) -> Callable[[Path, int], Tables]:
    return lambda folder, _: _imdb(folder, count)


def _sentences(folder: Path, _: int) -> Tables:
    train, test = (
        table.assign(text=table["text"].map(first_sentence)) for table in _imdb(folder, SHORT)
    )
    return train[train["text"] != ""], test[test["text"] != ""]


def first_sentence(review: str) -> str:
    """Return the text up to the first full stop, exclamation or question mark after a word."""
    plain = re.sub(r"\s+", " ", review.replace("<br />", " ")).strip()
    match = re.match(r".*?\w.*?[.!?](?=\s|$)", plain)
    return match[0] if match else plain


def _ratings(folder: Path, _: int) -> Tables:
    train, test = (
        table.assign(label=table["rating"].map(_rating_class)) for table in _imdb(folder, SHORT)
    )
    return train, test


def _rating_class(rating: int) -> str:
    return "1-2" if rating <= 2 else "3-4" if rating <= 4 else "7-8" if rating <= 8 else "9-10"


def _amazon(domain: str) -> Callable[[Path, int], Tables]:
    def tables(folder: Path, seed: int) -> Tables:
        reviews = pd.read_csv(folder / "amazon" / "amazon_multidomain.csv.gz")
        reviews = reviews[reviews["domain"] == domain].sample(frac=1.0, random_state=1)
        by_class = reviews.groupby("label").cumcount()
        is_test = by_class % AMAZON_FOLDS == seed % AMAZON_FOLDS
        return reviews[~is_test], reviews[is_test]

    return tables


SETS = (
    *(TextSet(f"amazon_{d}", _amazon(d)) for d in ("books", "dvd", "electronics", "kitchen")),
    TextSet("imdb_2000", _reviews(2_000)),
    TextSet("imdb_sentences", _sentences),
    TextSet("imdb_ratings", _ratings, ("1-2", "3-4", "7-8", "9-10")),
    TextSet("imdb_8000", _reviews(8_000)),
    TextSet("imdb_all", _reviews(None)),
)
"""The nine development sets, the cheapest first."""
