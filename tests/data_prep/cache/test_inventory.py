from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.cache.inventory import cached_datasets, clear
from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.pipeline import prepare, prepare_test


def filled(cache: Path) -> list[str]:
    config = DataConfig(source="synthetic", reviews=40, test_size=0.25)
    names = [prepare(config, cache_dir=cache).fingerprint]
    names.append(prepare_test(config, cache_dir=cache).fingerprint)
    return names


def test_what_is_kept_is_described(tmp_path: Path) -> None:
    assert cached_datasets(tmp_path / "none") == []
    names = filled(tmp_path)
    (tmp_path / names[0][::-1]).mkdir()
    found = {each.name: each for each in cached_datasets(tmp_path)}
    assert found[names[0]].what == "synthetic, 22 train, 8 valid"
    assert found[names[1]].what == "a test part, 10 reviews"
    assert found[names[0][::-1]].what.startswith("damaged")
    assert found[names[0]].nbytes > 1_000


def test_only_what_was_named_is_removed(tmp_path: Path) -> None:
    first, second = filled(tmp_path)
    assert clear(tmp_path, [first[:9], first]) == [first]
    assert [each.name for each in cached_datasets(tmp_path)] == [second]
    (tmp_path / "downloads").mkdir()
    assert clear(tmp_path, downloads=True) == [second, "downloads"]
    assert list(tmp_path.iterdir()) == []
    assert clear(tmp_path) == []


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    for name in ("x", ""):
        with pytest.raises(DataError, match=r"names (none|2) of the 2 sets .*celltune cache list"):
            clear(tmp_path, [name])
    assert len(cached_datasets(tmp_path)) == 2


def test_what_is_no_set_is_neither_listed_nor_removed(tmp_path: Path) -> None:
    mine = tmp_path / "native" / "loops.so"
    mine.parent.mkdir()
    mine.write_text("somebody's")
    (tmp_path / ("a" * 32)).mkdir()
    assert [each.name for each in cached_datasets(tmp_path)] == ["a" * 32]
    assert clear(tmp_path) == ["a" * 32]
    assert mine.read_text() == "somebody's"
