from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.ledger.events import EpochReported, TrialCreated, TrialStopped
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.retention import CheckpointRetention


def kept_after(folder: LocalExperiment, accuracies: list[float], *, stopped: bool) -> list[str]:
    state = ExperimentState([TrialCreated(at=0.0, number=0, params={}, max_epochs=9)])
    keeper = CheckpointRetention(folder, "valid_accuracy")
    events: list[EpochReported | TrialStopped] = []
    for epoch, accuracy in enumerate(accuracies, 1):
        (folder.checkpoints(0).folder / f"epoch-{epoch}").mkdir(parents=True)
        (folder.checkpoints(0).folder / f"epoch-{epoch}" / "state.json").write_text("{}")
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
        keeper(event, state)
    return sorted(path.name for path in folder.checkpoints(0).folder.iterdir())


def test_a_running_trial_keeps_its_newest_two_and_its_best(tmp_path: Path) -> None:
    kept = kept_after(LocalExperiment(tmp_path), [0.5, 0.9, 0.6, 0.7, 0.8], stopped=False)
    assert kept == ["epoch-2", "epoch-4", "epoch-5"]


@pytest.mark.parametrize(
    ("accuracies", "kept"), [([0.5, 0.9, 0.6], ["epoch-2", "epoch-3"]), ([0.1, 0.2], ["epoch-2"])]
)
def test_an_ended_trial_keeps_its_newest_and_its_best(
    accuracies: list[float], kept: list[str], tmp_path: Path
) -> None:
    assert kept_after(LocalExperiment(tmp_path), accuracies, stopped=True) == kept


def test_what_the_ledger_does_not_know_is_left_alone(tmp_path: Path) -> None:
    ahead = LocalExperiment(tmp_path).checkpoints(0).folder / "epoch-9"
    ahead.mkdir(parents=True)
    assert "epoch-9" in kept_after(LocalExperiment(tmp_path), [0.5, 0.6, 0.7], stopped=True)


def test_a_checkpoint_that_can_not_be_removed_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    kept_after(LocalExperiment(tmp_path), [0.5, 0.6, 0.7], stopped=True)
    assert "epoch-1 can't be removed: Permission denied" in caplog.text


def test_what_was_removed_is_not_looked_at_again_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr("shutil.rmtree", lambda path: looked_at.append(Path(path).name))
    kept_after(LocalExperiment(tmp_path), [0.9, 0.5, 0.5, 0.5, 0.5, 0.5], stopped=False)
    assert looked_at == ["epoch-2", "epoch-3", "epoch-4"]
