"""Small data sets as files, and tensorized splits for the tests of batching."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from celltune.data_prep.dataset.tensorized import TensorizedSplit

REVIEWS = [
    ("a fine film , really", 1),
    ('it was dull ,\nand "long"', 0),
    ("gut gemacht: schön!", 1),
    ("not good at all", 0),
    ("I laughed. I cried.", 1),
    ("never again", 0),
]

WriteCsv = Callable[..., Path]


@pytest.fixture
def reviews() -> list[tuple[str, int]]:
    """Texts with special characters of CSV, tokenizers and UTF-8, and their labels."""
    return REVIEWS


@pytest.fixture
def write_csv(tmp_path: Path) -> WriteCsv:
    """Function that writes a CSV file with a header, gzipped if its name ends with .gz."""

    def write(
        rows: Iterable[Iterable[object]],
        header: Iterable[str] = ("text", "label"),
        name: str = "reviews.csv",
    ) -> Path:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([list(header), *map(list, rows)])
        content = text.getvalue().encode("utf-8")
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture
def imdb_folder(tmp_path: Path) -> Path:
    """The folder aclImdb with six training, six test reviews and an unlabelled one."""
    root = tmp_path / "aclImdb"
    for number, (text, label) in enumerate(REVIEWS):
        for split in ("train", "test"):
            folder = root / split / ("neg", "pos")[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}_{1 + 8 * label}.txt").write_text(f"{split} {text}", "utf-8")
    (root / "train" / "unsup").mkdir()
    (root / "train" / "unsup" / "0_0.txt").write_text("an unlabelled review", "utf-8")
    (root / "README").write_text("about", "utf-8")
    return root


@pytest.fixture
def imdb_archive(imdb_folder: Path, tmp_path: Path) -> Path:
    """The archive of `imdb_folder`."""
    path = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(imdb_folder, "aclImdb")
    return path


@pytest.fixture
def make_split() -> Callable[..., TensorizedSplit]:
    """Function that makes a split of the given lengths.

    All token ids of document i are i + 2, its label is i % 2.
    """

    def make(lengths: Iterable[int]) -> TensorizedSplit:
        sizes = np.array(list(lengths), dtype=np.int64)
        numbers = np.arange(len(sizes))
        return TensorizedSplit(
            ids=np.repeat(numbers + 2, sizes).astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            labels=numbers.astype(np.int64) % 2,
        )

    return make
