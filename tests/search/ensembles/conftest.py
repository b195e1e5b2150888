"""Experiments that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment


@pytest.fixture
def own(trained: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with two copies of the trained experiment, `small` and `other`."""
    for name in ("small", "other"):
        shutil.copytree(trained.path, tmp_path / name)
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(own: Path) -> LocalExperiment:
    return experiment(own, "small")


@pytest.fixture
def other(own: Path) -> LocalExperiment:
    return experiment(own, "other")


def experiment(storage: Path, name: str) -> LocalExperiment:
    found = find_experiment(name, storage)
    assert isinstance(found, LocalExperiment)
    return found
