from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.cache.inventory import cached_datasets, clear
from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test


def fill(cache: Path) -> tuple[str, str]:
    """Prepare a data set and its test split; return their fingerprints."""
    config = DataConfig(source="synthetic", reviews=40, test_size=0.25)
    data = prepare(config, cache_dir=cache)
    return data.fingerprint, prepare_test(config, cache_dir=cache).fingerprint


def fingerprints(cache: Path) -> list[str]:
    return [dataset.fingerprint for dataset in cached_datasets(cache)]


def test_datasets_are_described(tmp_path: Path) -> None:
    assert cached_datasets(tmp_path / "missing") == []
    data, test = fill(tmp_path)
    damaged = data[::-1]
    (tmp_path / damaged).mkdir()
    datasets = {dataset.fingerprint: dataset for dataset in cached_datasets(tmp_path)}
    assert datasets[data].description == "synthetic, 22 train, 8 valid"
    assert datasets[test].description == "test split, 10 documents"
    assert datasets[damaged].description.startswith("damaged")
    assert datasets[data].nbytes > 1_000


def test_clear_removes_only_the_given_fingerprints(tmp_path: Path) -> None:
    first, second = fill(tmp_path)
    assert clear(tmp_path, [first[:9], first]) == [first]
    assert fingerprints(tmp_path) == [second]
    (tmp_path / "downloads").mkdir()
    assert clear(tmp_path, downloads=True) == [second, "downloads"]
    assert list(tmp_path.iterdir()) == []
    assert clear(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "is not the beginning of any fingerprint"),
        ("", "is the beginning of 2 fingerprints"),
    ],
)
def test_clear_rejects_fingerprints_without_a_unique_match(
    tmp_path: Path, text: str, problem: str
) -> None:
    fill(tmp_path)
    with pytest.raises(
        DataError, match=rf"`fingerprints` contains '{text}', which {problem} in .* exactly one\."
    ):
        clear(tmp_path, [text])
    assert len(cached_datasets(tmp_path)) == 2


def test_other_files_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    other = tmp_path / "native" / "loops.so"
    other.parent.mkdir()
    other.write_text("content")
    (tmp_path / ("a" * 32)).mkdir()
    assert fingerprints(tmp_path) == ["a" * 32]
    assert clear(tmp_path) == ["a" * 32]
    assert other.read_text() == "content"


def test_nothing_outside_of_the_cache_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    cache = tmp_path / "cache"
    first, _ = fill(cache)
    (cache / first / "link").symlink_to(outside)
    (cache / first[::-1]).symlink_to(outside)
    (cache / "downloads").symlink_to(outside)

    assert first[::-1] not in clear(cache, downloads=True)

    assert [path.name for path in cache.iterdir()] == [first[::-1]]
    assert (outside / "file").read_text() == "precious"
