from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.ledger.events import EpochReported, TrialCreated, TrialStopped
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.retention import CheckpointRetention


def checkpoints_after(
    experiment: LocalExperiment, accuracies: list[float], *, stopped: bool
) -> list[str]:
    state = ExperimentState([TrialCreated(at=0.0, number=0, params={}, max_epochs=9)])
    retention = CheckpointRetention(experiment, "valid_accuracy")
    events: list[EpochReported | TrialStopped] = []
    for epoch, accuracy in enumerate(accuracies, 1):
        (experiment.checkpoints(0).folder / f"epoch-{epoch}").mkdir(parents=True)
        (experiment.checkpoints(0).folder / f"epoch-{epoch}" / "state.json").write_text("{}")
        metrics = {"valid_accuracy": accuracy}
        events.append(
            EpochReported(
                at=0.0, number=0, epoch=epoch, metrics=metrics, checkpoint=f"epoch-{epoch}"
            )
        )
    if stopped:
        events.append(TrialStopped(at=0.0, number=0, reason="pruned"))
    for event in events:
        state.apply(event)
        retention(event, state)
    return sorted(path.name for path in experiment.checkpoints(0).folder.iterdir())


def test_running_trial_keeps_newest_two_and_best(tmp_path: Path) -> None:
    kept = checkpoints_after(LocalExperiment(tmp_path), [0.5, 0.9, 0.6, 0.7, 0.8], stopped=False)
    assert kept == ["epoch-2", "epoch-4", "epoch-5"]


@pytest.mark.parametrize(
    ("accuracies", "kept"), [([0.5, 0.9, 0.6], ["epoch-2", "epoch-3"]), ([0.1, 0.2], ["epoch-2"])]
)
def test_ended_trial_keeps_newest_and_best(
    accuracies: list[float], kept: list[str], tmp_path: Path
) -> None:
    assert checkpoints_after(LocalExperiment(tmp_path), accuracies, stopped=True) == kept


def test_unrecorded_checkpoint_is_not_removed(tmp_path: Path) -> None:
    ahead = LocalExperiment(tmp_path).checkpoints(0).folder / "epoch-9"
    ahead.mkdir(parents=True)
    assert "epoch-9" in checkpoints_after(LocalExperiment(tmp_path), [0.5, 0.6, 0.7], stopped=True)


def test_failed_removal_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: EnclosedPath) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(EnclosedPath, "remove_all", refuse)
    checkpoints_after(LocalExperiment(tmp_path), [0.5, 0.6, 0.7], stopped=True)
    assert "epoch-1 cannot be removed: Permission denied" in caplog.text


def test_each_checkpoint_is_removed_once_during_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(EnclosedPath, "remove_all", lambda path: removed.append(path.name))
    checkpoints_after(LocalExperiment(tmp_path), [0.9, 0.5, 0.5, 0.5, 0.5, 0.5], stopped=False)
    assert removed == ["epoch-2", "epoch-3", "epoch-4"]
