"""Deleting, pruning and copying experiments whose trials were trained for real."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from celltune.models.errors import CheckpointError
from celltune.search.config.loading import parse_config
from celltune.search.ensembles.ensemble import ensemble
from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.events import (
    CheckpointsKept,
    Event,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.runs import housekeeping
from celltune.search.runs.housekeeping import copy, delete, plan_deletion, plan_pruning, prune
from celltune.search.storage.local import LocalExperiment, LocalStorage
from celltune.search.storage.locate import new_experiment
from celltune.testing.storage import assert_same_state
from tests.search.ensemble_events import member, selected
from tests.search.simulated_search import make_config


def append(experiment: LocalExperiment, *events: Event) -> None:
    with experiment.locked(), experiment.open_ledger() as ledger:
        ledger.append(*events)


def names(experiment: LocalExperiment, number: int) -> list[str]:
    folder = experiment.path / "trials" / str(number)
    return sorted(os.listdir(folder)) if folder.exists() else []  # noqa: PTH208


# ---------------------------------------------------------------------------------------------
# Usage


def test_the_size_of_an_experiment_is_that_of_its_files(small: LocalExperiment) -> None:
    usage = housekeeping.usage_of(small)
    files = [path for path in small.path.rglob("*") if path.is_file()]
    assert usage.nbytes == sum(path.stat().st_size for path in files)
    assert set(usage.checkpoints) == {
        (number, name) for number in (0, 1) for name in names(small, number)
    }
    assert 0 < usage.checkpoint_bytes < usage.nbytes


# ---------------------------------------------------------------------------------------------
# Deleting


def test_a_running_experiment_is_not_deleted(small: LocalExperiment) -> None:
    with (
        LocalExperiment(small.path).locked(),
        pytest.raises(ExperimentError, match="'small' is running, so it cannot be deleted"),
    ):
        plan_deletion([small])


def test_a_damaged_experiment_can_be_deleted(small: LocalExperiment) -> None:
    small.ledger.write_text("x\n")
    (deletion,) = plan_deletion([small])
    assert deletion.snapshot is None
    assert (deletion.fingerprint, deletion.left_behind) == ("", [])
    assert delete(deletion) == []
    assert not small.exists()


def test_models_of_another_ensemble_are_not_deleted(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    kept = CheckpointsKept(at=9.0, owner="other", checkpoints={0: ["epoch-1"]})
    append(small, kept)
    with pytest.raises(ExperimentError, match="The ensemble of 'other' has models of 'small', wh"):
        plan_deletion([small])
    assert len(plan_deletion([small, other])) == 2
    append(small, CheckpointsKept(at=9.0, owner="other", checkpoints={}))
    assert len(plan_deletion([small])) == 1
    append(small, kept)
    other.delete()
    assert len(plan_deletion([small])) == 1


@pytest.fixture
def shared(small: LocalExperiment, other: LocalExperiment) -> LocalExperiment:
    """`small` with an ensemble that has a model of `other`, which keeps its checkpoint."""
    state = small.state()
    model, best = (
        member(params=dict(state.trials[0].params), experiment=experiment)
        for experiment in ("other", None)
    )
    append(other, CheckpointsKept(at=9.0, owner="small", checkpoints={0: ["epoch-1"]}))
    append(small, selected(model).model_copy(update={"best": best}))
    return small


def test_a_deletion_releases_what_its_ensemble_needed(
    shared: LocalExperiment, other: LocalExperiment
) -> None:
    events = shared.events()
    (deletion,) = plan_deletion([shared])
    assert delete(deletion) == []
    assert other.state().kept_for["small"].checkpoints == {}
    recorded = len(other.events())
    shared.create(other.config(), *events)
    (again,) = plan_deletion([shared])
    assert delete(again) == []
    assert len(other.events()) == recorded


def test_an_ensemble_may_have_models_of_a_deleted_experiment(
    shared: LocalExperiment, other: LocalExperiment
) -> None:
    (deletion,) = plan_deletion([shared])
    other.delete()
    assert delete(deletion) == []


def test_what_cannot_be_released_is_named(shared: LocalExperiment, other: LocalExperiment) -> None:
    (deletion,) = plan_deletion([shared])
    with LocalExperiment(other.path).locked():
        (note,) = delete(deletion)
    assert note.startswith("'other' still keeps checkpoints for 'small'. The experiment 'other' is")
    assert not shared.exists()


def test_what_trackers_keep_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    tracking = {"tensorboard": str(folder), "mlflow": "https://someone:secret@host/x"}
    experiment = LocalExperiment(tmp_path / "demo")
    config = make_config(tracking=tracking)
    experiment.create(config, ExperimentCreated(at=1.0, fingerprint="f"))
    (deletion,) = plan_deletion([experiment])
    (sentence,) = deletion.left_behind
    assert sentence.startswith("MLflow keeps the runs of 'demo' at https://")
    assert sentence.endswith(f"in its experiment '{config.name}'.")
    assert "secret" not in sentence
    (folder / "demo").mkdir(parents=True)
    assert f"TensorBoard's files of 'demo' stay in {folder}/demo." in deletion.left_behind


def test_prepared_data_is_used_by_all_experiments_with_its_fingerprint(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    (deletion,) = plan_deletion([small])
    storage = small.storage
    assert housekeeping.others_with_data(storage, deletion.fingerprint, ["small"]) == ["other"]
    assert housekeeping.others_with_data(storage, deletion.fingerprint, ["small", "other"]) == []
    other.ledger.write_text("x\n")
    assert housekeeping.others_with_data(storage, deletion.fingerprint, ["small"]) == []


# ---------------------------------------------------------------------------------------------
# Pruning


def test_only_the_best_trials_keep_their_checkpoints(small: LocalExperiment) -> None:
    before = small.snapshot().state
    (best, *others) = [trial.number for trial in before.ranked("valid_accuracy")]
    plan = plan_pruning(small, 1)
    assert plan.kept == (best,)
    assert plan.trials == others
    size = sum(path.stat().st_size for path in small.path.rglob("trials/**/*") if path.is_file())
    pruned = prune(small, 1)
    assert pruned == plan
    rest = sum(path.stat().st_size for path in small.path.rglob("trials/**/*") if path.is_file())
    assert size - rest == plan.nbytes > 0
    assert names(small, others[0]) == []
    assert len(names(small, best)) == 3
    assert small.snapshot().state.ranked("valid_accuracy")[0].number == best
    with pytest.raises(CheckpointError):
        small.checkpoints(others[0]).load("epoch-1")
    assert prune(small, 1).removed == {}


def test_members_of_ensembles_and_unfinished_trials_keep_theirs(small: LocalExperiment) -> None:
    state = small.snapshot().state
    worst = state.ranked("valid_accuracy")[-1]
    name = worst.epochs[0].checkpoint or ""
    append(small, CheckpointsKept(at=9.0, owner="x", checkpoints={worst.number: [name]}))
    assert plan_pruning(small, 1).removed == {}
    append(small, CheckpointsKept(at=9.0, owner="x", checkpoints={}))
    assert plan_pruning(small, 1).trials == [worst.number]
    params = dict(worst.params)
    append(small, TrialCreated(at=9.0, number=3, params=params, max_epochs=3))
    small.checkpoints(3).save(small.checkpoints(worst.number).load(name), "epoch-1")
    assert plan_pruning(small, 1).trials == [worst.number]


def test_a_running_experiment_is_not_pruned(small: LocalExperiment) -> None:
    with LocalExperiment(small.path).locked():
        with pytest.raises(ExperimentError, match="'small' is running, so it cannot be pruned"):
            plan_pruning(small, 1)
        with pytest.raises(ExperimentError, match="run by another process"):
            prune(small, 1)


def test_a_checkpoint_that_cannot_be_removed_is_named(
    small: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ExperimentError, match="cannot be removed: Permission denied"):
        prune(small, 1)


# ---------------------------------------------------------------------------------------------
# Copying


def test_a_copy_is_an_experiment_of_its_own(small: LocalExperiment, tmp_path: Path) -> None:
    append(small, CheckpointsKept(at=9.0, owner="x", checkpoints={}))
    target = new_experiment("copied", tmp_path / "elsewhere")
    copied = copy(small, target)
    assert copied.left_out == ()
    original, new = small.snapshot(), target.snapshot()
    assert new.config == original.config.model_copy(update={"name": "copied"})
    assert copied.events == len(new.events) == len(original.events) - 1
    assert new.events[1:] == original.events[1:-1]
    created = new.state.created
    assert created is not None
    assert created.experiment_id is not None
    assert created.experiment_id != original.state.created.experiment_id  # type: ignore[union-attr]
    assert created.config is not None
    assert parse_config(created.config).name == "copied"
    assert isinstance(target, LocalExperiment)
    for number in (0, 1):
        assert names(target, number) == names(small, number) != []
        for name in names(small, number):
            state = small.checkpoints(number).load(name)
            assert_same_state(target.checkpoints(number).load(name), state)
    # Each line is bound to its own experiment.
    lines = target.ledger.read_text().splitlines(keepends=True)
    line = small.ledger.read_text().splitlines(keepends=True)[1]
    assert json.loads(line)["data"] == json.loads(lines[1])["data"]
    target.ledger.write_text("".join([lines[0], line, *lines[2:]]))
    with pytest.raises(LedgerError, match="line 2"):
        target.events()


def test_an_experiment_moves_to_an_object_store_and_back(
    small: LocalExperiment, bucket: str, tmp_path: Path
) -> None:
    remote = new_experiment("remote", bucket)
    copied = copy(small, remote)
    assert remote.snapshot().events[1:] == small.snapshot().events[1:]
    assert len(prune(remote, 1).removed) == 1
    back = LocalExperiment(tmp_path / "back")
    assert copy(remote, back).checkpoints == copied.checkpoints - 1
    state = small.checkpoints(0).load("epoch-1")
    assert_same_state(back.checkpoints(0).load("epoch-1"), state)
    assert delete(*plan_deletion([remote])) == []
    assert remote.storage.names() == []
    assert list(remote.files()) == []


def test_damaged_checkpoints_are_left_out(small: LocalExperiment, tmp_path: Path) -> None:
    (first, *_) = names(small, 0)
    (small.path / "trials" / "0" / first / "tensors.safetensors").write_bytes(b"x")
    (small.path / "trials" / "0" / "epoch-9").mkdir()
    copied = copy(small, LocalExperiment(tmp_path / "copied"))
    assert copied.left_out == (small.checkpoints(0).location(first),)
    assert first not in names(LocalExperiment(tmp_path / "copied"), 0)


def test_a_copy_that_fails_leaves_nothing(
    small: LocalExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path / "elsewhere")
    with LocalExperiment(small.path).locked(), pytest.raises(ExperimentError, match="run by anoth"):
        copy(small, storage.experiment("copied"))

    def fail(self: object, name: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("celltune.search.storage.checkpoints.LocalCheckpoints.load", fail)
    with pytest.raises(ExperimentError, match="cannot be read: Input/output error"):
        copy(small, storage.experiment("copied"))
    assert list(storage.folder.iterdir()) == []


def test_a_copy_in_an_ensemble_of_the_original(small: LocalExperiment, own: Path) -> None:
    copy(small, LocalExperiment(own / "copied"))
    result = ensemble("copied", storage=own, size=2)
    assert result.selected.members
