from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from celltune import ensemble
from celltune.models.config import ModelConfig
from celltune.search.config.loading import dump_config, parse_config
from celltune.search.errors import ExperimentError, LedgerError, OptionError, StorageError
from celltune.search.ledger.events import (
    CheckpointsKept,
    EnsembleSelected,
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.prepared_data import load_prepared
from celltune.search.storage.retention import CheckpointRetention
from celltune.search.tuning.valid_predictions import find_predictions, remove_predictions


def best_checkpoint(experiment: LocalExperiment, number: int) -> tuple[LocalCheckpoints, str]:
    best = experiment.state().trials[number].best("valid_accuracy")
    assert best is not None
    assert best.checkpoint is not None
    return experiment.checkpoints(number), best.checkpoint


def remove_stored_predictions(experiment: LocalExperiment, number: int) -> None:
    checkpoints, name = best_checkpoint(experiment, number)
    checkpoints.save(remove_predictions(checkpoints.load(name)), name)


def rewrite_ledger(experiment: LocalExperiment, events: list[Event]) -> None:
    experiment.ledger.unlink()
    with experiment.open_ledger() as ledger:
        ledger.append(*events)


def make_wide_only(experiment: LocalExperiment, number: int) -> None:
    """Make a trial one of the wide part alone, in the ledger and in its best checkpoint."""
    events = experiment.events()
    created = next(e for e in events if e.event == "trial_created" and e.number == number)
    wide_only = created.model_copy(update={"params": {"wide": "only"}})
    rewrite_ledger(experiment, [wide_only if event is created else event for event in events])
    allow_wide_only(experiment, number)
    checkpoints, name = best_checkpoint(experiment, number)
    tensors, meta = checkpoints.load(name)
    model = ModelConfig(wide="only").model_dump(mode="json")
    checkpoints.save((tensors, {**meta, "model": model}), name)


def test_the_selection_is_recorded_and_is_that_of_the_stored_predictions(
    small: LocalExperiment,
) -> None:
    result = ensemble("small", size=4, clock=lambda: 7.0)
    event = result.selected
    assert small.events()[-1] == event
    assert small.state().ensemble == event
    assert (event.at, event.size, event.candidates, result.notes) == (7.0, 4, 2, ())
    data = load_prepared("small", small.config().data, event.fingerprint)
    probabilities = 0.0
    for member in event.members:
        assert member.experiment is None
        checkpoints, name = best_checkpoint(small, member.number)
        assert member.checkpoint == name
        stored = find_predictions(checkpoints.load(name)[0])
        assert stored is not None
        probabilities = probabilities + member.weight * np.exp(stored.astype(float))
    of_labels = np.asarray(probabilities)[np.arange(len(data.valid)), data.valid.labels]
    assert event.ensemble.loss == pytest.approx(-np.log(of_labels).mean(), rel=1e-6)
    assert event.documents == len(data.valid)
    best = small.state().ranked("valid_accuracy")[0]
    assert event.best.number == best.number
    assert event.single.accuracy == pytest.approx(best.best_value("valid_accuracy"))


def test_the_same_call_again_records_nothing(small: LocalExperiment) -> None:
    first = ensemble("small")
    events = small.events()
    again = ensemble("small")
    assert small.events() == events
    assert again.selected == first.selected.model_copy(update={"at": again.selected.at})
    assert ensemble("small", size=1).selected.members != first.selected.members
    assert len(small.events()) == len(events) + 1


def allow_wide_only(experiment: LocalExperiment, number: int) -> None:
    """Change the config so that a trial may be the wide part alone."""
    created = [event for event in experiment.events() if isinstance(event, TrialCreated)]
    plain = experiment.config().model_dump(mode="json")
    plain["data"]["wide"] = True
    plain["first_trials"] = [dict(event.params) for event in created[: number + 1]]
    text = dump_config(parse_config(plain))
    Path(experiment.location, "experiment.yaml").write_text(text, "utf-8")


def test_only_the_best_trials_are_considered(small: LocalExperiment) -> None:
    event = ensemble("small", trials_considered=1).selected
    assert event.candidates == 1
    assert [member.number for member in event.members] == [event.best.number]
    assert not event.accuracy_gain.is_clear


def test_a_trial_of_the_wide_part_alone_is_always_considered(small: LocalExperiment) -> None:
    make_wide_only(small, 1)
    assert ensemble("small", trials_considered=1).selected.candidates == 2


def test_the_best_single_trial_is_the_first_of_the_leaderboard(
    wide_trials: LocalExperiment, tmp_path: Path
) -> None:
    """A network that improves on the wide part alone by less than noise ranks below it."""
    shutil.copytree(wide_trials.path, tmp_path / "wide")
    wide = LocalExperiment(tmp_path / "wide")
    for gain, best in ((0.001, 0), (0.9, 1)):
        rewrite_ledger(
            wide,
            [
                event.model_copy(
                    update={"metrics": {**event.metrics, "valid_accuracy": 1.0, "wide_gain": gain}}
                )
                if isinstance(event, EpochReported) and event.number == 1
                else event
                for event in wide.events()
            ],
        )
        assert wide.state().ranked("valid_accuracy")[0].number == best
        assert ensemble("wide", storage=tmp_path).selected.best.number == best


def test_the_best_single_trial_is_the_best_of_all_experiments(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    """The wide part alone ranks above worse trials of a search that has no wide part."""
    make_wide_only(small, 0)
    remove_stored_predictions(other, 0)
    for names in (("small", "other"), ("other", "small")):
        best = ensemble(*names).selected.best
        assert (best.experiment or names[0], best.number) == ("small", 0)


def test_experiments_with_different_metrics_are_compared_by_accuracy(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    config = other.path / "experiment.yaml"
    text = config.read_text()
    assert "metric: valid_accuracy" in text
    config.write_text(text.replace("metric: valid_accuracy", "metric: valid_loss"))
    assert ensemble("small", "other").selected.metric == "valid_accuracy"
    assert ensemble("other", "small").selected.metric == "valid_loss"


def test_members_in_other_experiments_keep_their_checkpoints(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    event = ensemble("small", "other", "small").selected
    assert event.candidates == 4
    in_other = [member for member in event.members if member.experiment == "other"]
    assert len(in_other) in range(1, len(event.members))
    kept = other.events()[-1]
    assert isinstance(kept, CheckpointsKept)
    assert kept.owner == "small"
    assert kept.checkpoints == {
        member.number: [member.checkpoint]
        for member in sorted(in_other, key=lambda member: member.number)
    }
    number = in_other[0].number
    assert other.state().members_of_ensembles(number) == {in_other[0].checkpoint}
    remove_stored_predictions(other, 0)
    remove_stored_predictions(other, 1)
    ensemble("small", "other")
    released = other.events()[-1]
    assert isinstance(released, CheckpointsKept)
    assert released.checkpoints == {}
    assert other.state().members_of_ensembles(number) == set()


def test_the_order_of_the_experiments_does_not_change_the_members(own: Path) -> None:
    def members(owner: str, second: str) -> list[tuple[str, int, float]]:
        found = ensemble(owner, second).selected.members
        return [(m.experiment or owner, m.number, m.weight) for m in found]

    assert members("small", "other") == members("other", "small")


def test_retention_keeps_members(small: LocalExperiment) -> None:
    event = ensemble("small", trials_considered=1).selected
    (member,) = event.members
    later = [
        EpochReported(
            at=1.0,
            number=member.number,
            epoch=epoch,
            metrics={"valid_accuracy": 0.0, "valid_loss": 1e-9 / epoch},
            checkpoint=f"epoch-{epoch}",
        )
        for epoch in range(4, 7)
    ]
    state = small.state()
    trial = state.trials[member.number]
    trial.status, trial.max_epochs = "unfinished", 6
    folder = small.checkpoints(member.number).folder
    retention = CheckpointRetention(small, "valid_loss")
    for report in later:
        shutil.copytree(folder / member.checkpoint, folder / f"epoch-{report.epoch}")
        state.apply(report)
        retention(report, state)
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted({member.checkpoint, "epoch-5", "epoch-6"})


def test_experiments_on_different_data_are_rejected(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    _, *events = other.events()
    rewrite_ledger(other, [ExperimentCreated(at=0.0, fingerprint="0123456789abcdef"), *events])
    before = small.events()
    assert isinstance(before[0], ExperimentCreated)
    with pytest.raises(ExperimentError) as caught:
        ensemble("small", "other")
    assert str(caught.value) == (
        "The experiments used different data, so their models cannot be averaged (fingerprints of "
        f"the prepared data: 'small' {before[0].fingerprint[:12]}, 'other' 0123456789ab). Give "
        "experiments on the same data."
    )
    assert small.events() == before


def test_models_of_earlier_releases_are_skipped(small: LocalExperiment) -> None:
    remove_stored_predictions(small, 0)
    result = ensemble("small")
    assert result.notes == (
        "Trial 0 of 'small' was skipped: an earlier release trained it, whose checkpoints contain "
        "no predictions for the validation split.",
    )
    assert [member.number for member in result.selected.members] == [1]
    remove_stored_predictions(small, 1)
    before = small.events()
    with pytest.raises(ExperimentError, match=r"'small' contains 2 models and none can be a memb"):
        ensemble("small")
    assert small.events() == before


def test_a_damaged_checkpoint_is_no_candidate(small: LocalExperiment) -> None:
    checkpoints, name = best_checkpoint(small, 0)
    (weights,) = (checkpoints.folder / name).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    result = ensemble("small")
    assert len(result.notes) == 1
    assert "Trial 0 of 'small' was skipped" in result.notes[0]
    assert "it is truncated or altered" in result.notes[0]


def test_predictions_for_other_documents_are_no_candidate(small: LocalExperiment) -> None:
    checkpoints, name = best_checkpoint(small, 0)
    tensors, values = checkpoints.load(name)
    short = {key: t[1:] if key.startswith("valid.") else t for key, t in tensors.items()}
    checkpoints.save((short, values), name)
    assert "values for the validation split instead of" in ensemble("small").notes[0]


def test_an_unreachable_storage_is_an_error(
    small: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LocalCheckpoints, name: str) -> None:
        raise TimeoutError(110, "Connection timed out")

    before = small.events()
    monkeypatch.setattr(LocalCheckpoints, "load", fail)
    with pytest.raises(StorageError, match=r"cannot be read: Connection timed out. Nothing was re"):
        ensemble("small")
    assert small.events() == before


def test_a_running_experiment_is_rejected(own: Path, other: LocalExperiment) -> None:
    with other.locked(), pytest.raises(ExperimentError, match="'other' is being run by another"):
        ensemble("small", "other")


def test_a_search_without_epochs_is_rejected(small: LocalExperiment) -> None:
    rewrite_ledger(small, small.events()[:1])
    with pytest.raises(ExperimentError, match="No trial has finished an epoch yet"):
        ensemble("small")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` is 0; it must be at least 1"),
        ({"trials_considered": -1}, "`trials_considered` is -1; it must be at least 1"),
    ],
)
def test_invalid_arguments_are_rejected(own: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ensemble("small", **arguments)  # type: ignore[arg-type]


def test_a_name_is_needed(own: Path) -> None:
    with pytest.raises(OptionError, match="`names` is empty"):
        ensemble()


@pytest.mark.parametrize("appended", range(2))
def test_an_interrupted_selection_keeps_the_checkpoints_of_both_ensembles(
    appended: int,
    small: LocalExperiment,
    other: LocalExperiment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first append keeps checkpoints of old and new members, the second selects."""
    old = ensemble("small", "other", trials_considered=1).selected
    append, calls = Ledger.append, []

    def fail(ledger: Ledger, *events: Event) -> None:
        calls.append(events)
        if len(calls) > appended:
            raise LedgerError("The disk is full.")
        append(ledger, *events)

    remove_stored_predictions(other, old.members[0].number)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", fail)
        with pytest.raises(LedgerError, match="disk is full"):
            ensemble("small", "other")
    state = small.state()
    assert state.ensemble == old
    in_other = [member for member in old.members if member.experiment == "other"]
    assert in_other
    for member in in_other:
        assert member.checkpoint in other.state().members_of_ensembles(member.number)
    new = ensemble("small", "other").selected
    assert small.state().ensemble == new
    assert isinstance(small.events()[-1], EnsembleSelected)
    for number in (0, 1):
        needed = {
            m.checkpoint for m in new.members if (m.experiment, m.number) == ("other", number)
        }
        assert other.state().members_of_ensembles(number) == needed
