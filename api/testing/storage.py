"""Contract tests for storage backends; they need pytest.

Subclass `StorageContract` in a test module and return an empty storage:

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage.open(f"mine://{tmp_path}")
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch

from celltune.models.errors import CheckpointError
from celltune.search.config.loading import parse_config
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ExperimentError
from celltune.search.ledger.events import EpochReported, Event, ExperimentCreated, TrialCreated
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.launched import created_event
from celltune.search.storage.locate import find_experiment, new_experiment

CREATED = ExperimentCreated(at=1.0, fingerprint="f")
PARAMS: Any = {"cell": "gru", "hidden_size": 8, "learning_rate": 0.01}
TRIAL = TrialCreated(at=1.0, number=0, params=PARAMS, max_epochs=8)
EPOCHS: list[Event] = [
    EpochReported(
        at=1.0,
        number=0,
        epoch=n,
        metrics={"valid_accuracy": 0.5, "valid_loss": 0.6},
        checkpoint=f"epoch-{n}",
    )
    for n in (1, 2, 3)
]
OLD_STATE: Any = ({"weight": torch.arange(6.0)}, {"epoch": 1})
NEW_STATE: Any = ({"weight": torch.ones(6)}, {"epoch": 2})

_LOCK_AND_DIE = """
import os, pickle, sys
with pickle.load(sys.stdin.buffer).experiment("demo").locked():
    os._exit(9)
"""


def experiment_config() -> SearchConfig:
    """Return a small config."""
    space = {"cell": ["gru", "lstm"], "hidden_size": 8, "learning_rate": 0.01}
    return parse_config({"name": "demo", "data": {"source": "synthetic"}, "space": space})


def assert_same_state(actual: Any, expected: Any) -> None:
    """Assert that two training states are equal."""
    assert actual[1] == expected[1]
    assert actual[0].keys() == expected[0].keys()
    assert all(torch.equal(actual[0][name], expected[0][name]) for name in expected[0])


class StorageContract:
    """The requirements of every storage backend (see `celltune.search.storage.base`)."""

    @pytest.fixture
    def storage(self) -> Storage:
        """Return an empty storage."""
        raise NotImplementedError

    @pytest.fixture
    def experiment(self, storage: Storage) -> Experiment:
        """Return a new experiment named "demo"."""
        experiment = new_experiment("demo", storage)
        experiment.create(experiment_config(), CREATED)
        return experiment

    def test_empty_storage_has_no_experiments(self, storage: Storage) -> None:
        assert storage.names() == []
        with pytest.raises(ExperimentError, match=r"'demo': it contains no experiments\. Launch"):
            find_experiment("demo", storage)

    @pytest.mark.usefixtures("experiment")
    def test_address_opens_the_same_storage(self, storage: Storage) -> None:
        reopened = type(storage).open(str(storage))
        assert str(reopened) == str(storage)
        assert reopened.names() == ["demo"]

    @pytest.mark.usefixtures("experiment")
    def test_storage_is_picklable(self, storage: Storage) -> None:
        assert pickle.loads(pickle.dumps(storage)).names() == ["demo"]  # noqa: S301

    @pytest.mark.usefixtures("experiment")
    def test_subfolder_is_a_separate_storage(self, storage: Storage) -> None:
        nested = storage / "nested"
        new_experiment("inner", nested).create(experiment_config(), CREATED)
        assert nested.names() == ["inner"]
        assert storage.names() == ["demo"]

    @pytest.mark.usefixtures("experiment")
    def test_created_experiment_is_complete(self, storage: Storage) -> None:
        found = find_experiment("demo", storage)
        assert storage.names() == ["demo"]
        assert found.name == "demo"
        assert found.location == str(storage / "demo")
        assert found.config() == experiment_config()
        assert found.state().created == CREATED
        snapshot = found.snapshot()
        assert (list(snapshot.events), snapshot.running) == ([CREATED], False)

    def test_config_is_restored_from_the_ledger(self, storage: Storage) -> None:
        config = experiment_config()
        experiment = new_experiment("demo", storage)
        experiment.create(config, created_event(config, at=1.0, fingerprint="f"))
        content = experiment.config_file.read_text("utf-8").encode()
        experiment.config_file.write_bytes(content.replace(b"valid_accuracy", b"valid_loss"))
        with pytest.raises(ExperimentError, match="has metric 'valid_loss' instead of 'valid_acc"):
            experiment.snapshot()
        experiment.config_file.write_bytes(content[:-9] + b"\xff")
        assert find_experiment("demo", storage).snapshot().config == config
        with experiment.locked():
            assert experiment.config(restore=True) == config
        assert experiment.config_file.read_text("utf-8").encode() == content

    def test_used_name_is_rejected(self, storage: Storage, experiment: Experiment) -> None:
        with pytest.raises(ExperimentError, match=r"'demo' already exists in .*Resume it"):
            new_experiment("demo", storage)
        with pytest.raises(ExperimentError, match="'demo' already exists"):
            storage.experiment("demo").create(experiment_config(), CREATED)
        assert experiment.events() == [CREATED]

    @pytest.mark.usefixtures("experiment")
    def test_unknown_name_is_rejected_with_the_closest_one(self, storage: Storage) -> None:
        with pytest.raises(
            ExperimentError, match=r"Did you mean 'demo'\? Its experiments are: demo"
        ):
            find_experiment("dem", storage)

    def test_appended_events_are_read_by_others(
        self, storage: Storage, experiment: Experiment
    ) -> None:
        with experiment.locked(), experiment.open_ledger() as ledger:
            ledger.append(TRIAL)
            ledger.append(EPOCHS[0], EPOCHS[1])
            assert ledger.events == [CREATED, TRIAL, *EPOCHS[:2]]
            assert find_experiment("demo", storage).events() == ledger.events
        with experiment.locked(), experiment.open_ledger() as ledger:
            assert ledger.events == [CREATED, TRIAL, *EPOCHS[:2]]
            ledger.append(EPOCHS[2])
        assert experiment.state().trials[0].epochs_done == 3

    def test_only_one_process_holds_the_lock(
        self, storage: Storage, experiment: Experiment
    ) -> None:
        second = find_experiment("demo", storage)
        assert not second.is_locked()
        with experiment.locked():
            assert second.is_locked()
            assert second.snapshot().running
            with (
                pytest.raises(ExperimentError, match=r"run by another process \(.*stop it first"),
                second.locked(),
            ):
                pass
        assert not second.is_locked()
        with second.locked():
            assert experiment.is_locked()

    def test_lock_of_a_dead_process_is_free(self, storage: Storage, experiment: Experiment) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _LOCK_AND_DIE]
        died = subprocess.run(  # noqa: S603 - the code is above
            command, input=pickle.dumps(storage), env=environment, check=False
        )
        assert died.returncode == 9
        assert not experiment.is_locked()
        with experiment.locked(), experiment.open_ledger() as ledger:
            ledger.append(TRIAL)
        assert experiment.events() == [CREATED, TRIAL]

    def test_stop_request_is_seen_until_it_is_cleared(
        self, storage: Storage, experiment: Experiment
    ) -> None:
        driver = storage.experiment("demo")
        assert not driver.stop_requested()
        experiment.request_stop()
        assert driver.stop_requested()
        driver.clear_stop()
        assert not experiment.stop_requested()
        experiment.clear_stop()

    def test_checkpoints_are_replaced_set_aside_and_removed(self, experiment: Experiment) -> None:
        on_worker = pickle.loads(pickle.dumps(experiment.checkpoints(3)))  # noqa: S301
        with pytest.raises(CheckpointError, match="epoch-1"):
            on_worker.load("epoch-1")
        on_worker.save(OLD_STATE, "epoch-1")
        assert_same_state(on_worker.load("epoch-1"), OLD_STATE)
        on_worker.save(NEW_STATE, "epoch-1")
        assert_same_state(experiment.checkpoints(3).load("epoch-1"), NEW_STATE)
        on_worker.save(OLD_STATE, "epoch-2")
        assert on_worker.set_aside("epoch-1") == on_worker.location("epoch-1.damaged")
        assert_same_state(on_worker.load("epoch-1.damaged"), NEW_STATE)
        with pytest.raises(CheckpointError):
            on_worker.load("epoch-1")
        with pytest.raises(FileNotFoundError):
            on_worker.set_aside("epoch-1")
        on_worker.remove("epoch-2")
        on_worker.remove("epoch-2")
        with pytest.raises(CheckpointError):
            on_worker.load("epoch-2")

    def test_trials_have_separate_checkpoints(self, experiment: Experiment) -> None:
        experiment.checkpoints(0).save(OLD_STATE, "epoch-1")
        experiment.checkpoints(1).save(NEW_STATE, "epoch-1")
        assert_same_state(experiment.checkpoints(0).load("epoch-1"), OLD_STATE)

    def test_access_check_of_a_new_storage_leaves_nothing(self, storage: Storage) -> None:
        probed = storage / "probed"
        with probed.temporarily_created():
            probed.file("probe").write_bytes(b"a")
            probed.file("probe").write_bytes(b"ab")
            reader: Storage = pickle.loads(pickle.dumps(probed))  # noqa: S301
            assert reader.file("probe").read_bytes() == b"ab"
            assert reader.file("probe").is_file()
            probed.file("probe").unlink()
            assert not reader.file("probe").is_file()
            with pytest.raises(FileNotFoundError):
                reader.file("probe").read_bytes()
        assert probed.names() == []

    def test_files_are_listed_with_their_sizes(self, experiment: Experiment) -> None:
        experiment.checkpoints(3).save(OLD_STATE, "epoch-1")
        files = list(experiment.files())
        assert {file.parts[0] for file in files} >= {"experiment.yaml", "trials"}
        checkpoint = [file for file in files if file.parts[:3] == ("trials", "3", "epoch-1")]
        assert len(checkpoint) == 2
        assert all(len(file.path.read_bytes()) == file.size > 0 for file in checkpoint)

    def test_an_experiment_can_be_created_with_files(self, storage: Storage) -> None:
        copy = new_experiment("copy", storage)
        copy.create(experiment_config(), CREATED, files=[(("trials", "0", "note"), b"abc")])
        (note,) = (file for file in copy.files() if file.parts == ("trials", "0", "note"))
        assert (note.size, note.path.read_bytes()) == (3, b"abc")
        with pytest.raises(ExperimentError, match="'copy' already exists"):
            storage.experiment("copy").create(experiment_config(), CREATED, files=[(("x",), b"")])
        assert all(file.parts != ("x",) for file in copy.files())

    def test_a_deleted_experiment_leaves_its_name_free(
        self, storage: Storage, experiment: Experiment
    ) -> None:
        experiment.checkpoints(3).save(OLD_STATE, "epoch-1")
        other = new_experiment("other", storage)
        other.create(experiment_config(), CREATED)
        experiment.delete()
        assert storage.names() == ["other"]
        assert list(experiment.files()) == []
        assert not experiment.exists()
        new_experiment("demo", storage).create(experiment_config(), CREATED)
        assert find_experiment("demo", storage).events() == [CREATED]
        assert other.events() == [CREATED]
        assert storage.finish_deletions() == 0

    def test_a_running_experiment_is_not_deleted(
        self, storage: Storage, experiment: Experiment
    ) -> None:
        with (
            storage.experiment("demo").locked(),
            pytest.raises(ExperimentError, match="run by another process"),
        ):
            experiment.delete()
        assert experiment.events() == [CREATED]
