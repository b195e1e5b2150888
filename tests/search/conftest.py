"""Fixtures of the tests of search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from celltune.search.cluster.shared_ray import SHARED
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment
from tests.search.trained_experiment import make_experiment, make_wide_experiment


@pytest.fixture(autouse=True)
def _ray_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a search of the Python API sets for the rest of its process."""
    monkeypatch.setattr(SHARED, "wanted", False)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    make_experiment(root / "storage", root / "cache")
    return root


@pytest.fixture
def trained(_trained: Path, monkeypatch: pytest.MonkeyPatch) -> LocalExperiment:
    """A finished experiment that all tests share. Tests must not change it."""
    monkeypatch.setenv("CELLTUNE_STORAGE", str(_trained / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(_trained / "cache"))
    return find_experiment("small", _trained / "storage")


@pytest.fixture
def own(trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with two copies of the trained experiment, `small` and `other`, to be changed."""
    for name in ("small", "other"):
        shutil.copytree(trained.path, tmp_path / name)
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(own: Path) -> LocalExperiment:
    return LocalExperiment(own / "small")


@pytest.fixture
def other(own: Path) -> LocalExperiment:
    return LocalExperiment(own / "other")


@pytest.fixture(scope="session")
def _wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide")
    make_wide_experiment(root / "storage", root / "cache")
    return root


@pytest.fixture
def wide_trials(_wide: Path, monkeypatch: pytest.MonkeyPatch) -> LocalExperiment:
    """An experiment whose trial 0 is the wide part alone; trial 1 adds a network to it.

    All tests share it, and must not change it.
    """
    monkeypatch.setenv("CELLTUNE_STORAGE", str(_wide / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(_wide / "cache"))
    return find_experiment("wide", _wide / "storage")
