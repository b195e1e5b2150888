"""Both built-in storage backends fulfil the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.arrow import ArrowStorage
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.local import LocalStorage
from celltune.search.storage.retention import CheckpointRetention
from celltune.testing.storage import EPOCHS, OLD_STATE, TRIAL, StorageContract


class BuiltInContract(StorageContract):
    """The contract, and the retention of checkpoints, which works with every backend."""

    def test_unneeded_checkpoints_are_removed(self, experiment: Experiment) -> None:
        state = ExperimentState([TRIAL])
        retention = CheckpointRetention(experiment, "valid_accuracy")
        for number, event in enumerate(EPOCHS, 1):
            experiment.checkpoints(0).save(OLD_STATE, f"epoch-{number}")
            state.apply(event)
            retention(event, state)
        experiment.checkpoints(0).load("epoch-1")
        experiment.checkpoints(0).load("epoch-3")
        retention(EPOCHS[2], ExperimentState([TRIAL, *EPOCHS]))
        experiment.checkpoints(0).remove("epoch-2")


class TestLocalStorage(BuiltInContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage.open(str(tmp_path / "storage"))


class TestArrowStorage(BuiltInContract):
    @pytest.fixture
    def storage(self, bucket: str) -> Storage:
        return ArrowStorage.open(bucket)
