from __future__ import annotations

import pytest

from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)
from celltune.search.ledger.state import ExperimentState
from tests.search.assertions import assert_all_ended
from tests.search.ensemble_events import member, selected

STOPPED = TrialStopped(at=0.0, number=0, reason="pruned")


def created(number: int) -> TrialCreated:
    return TrialCreated(at=0.0, number=number, params={"cell": "gru"}, max_epochs=3)


def epoch(number: int, epoch: int, accuracy: float) -> EpochReported:
    metrics = {"valid_accuracy": accuracy, "valid_loss": 1 - accuracy}
    return EpochReported(
        at=1.0, number=number, epoch=epoch, metrics=metrics, checkpoint=f"epoch-{epoch}"
    )


def test_events_determine_the_trials() -> None:
    state = ExperimentState(
        [
            ExperimentCreated(at=0.0, fingerprint="f"),
            RunStarted(at=0.0, resumed=False, celltune="1", host="h", pid=1),
            created(0),
            created(1),
            created(2),
            epoch(1, 1, 0.7),
            epoch(0, 1, 0.6),
            TrialStopped(at=2.0, number=0, reason="pruned"),
            epoch(1, 2, 0.9),
            epoch(1, 3, 0.8),
            TrialStopped(at=2.0, number=1, reason="completed"),
            TrialFailed(at=2.0, number=2, error="no", details="trace"),
            RunEnded(at=9.0, reason="finished"),
        ]
    )
    assert [trial.status for trial in state.trials] == ["pruned", "completed", "failed"]
    assert_all_ended(state, 3)
    assert [trial.number for trial in state.ranked("valid_accuracy")] == [1, 0]
    best = state.trials[1].best("valid_accuracy")
    assert best is not None
    assert best.epoch == 2
    assert state.trials[2].best_value("valid_loss") is None
    assert state.updated_at == 9.0


def test_lower_loss_ranks_higher_and_ties_keep_their_order() -> None:
    state = ExperimentState(
        [created(0), created(1), created(2), epoch(0, 1, 0.5), epoch(1, 1, 0.7), epoch(2, 1, 0.7)]
    )
    assert [trial.number for trial in state.ranked("valid_loss")] == [1, 2, 0]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([created(1)], "trial 1 cannot be created: the next number is 0"),
        ([created(0), created(0)], "trial 0 cannot be created: the next number is 1"),
        ([epoch(0, 1, 0.5)], "trial 0 was never created"),
        ([created(0), epoch(0, 2, 0.5)], "trial 0 reports epoch 2 after 0"),
        ([created(0), epoch(0, 1, 0.5), epoch(0, 1, 0.5)], "reports epoch 1 after 1"),
        (
            [
                created(0),
                epoch(0, 1, 0.5),
                STOPPED,
                epoch(0, 2, 0.5),
            ],
            "trial 0 is already pruned",
        ),
        ([created(0), epoch(0, 1, 0), epoch(0, 2, 0), epoch(0, 3, 0), epoch(0, 4, 0)], "4 of 3"),
        ([created(0), STOPPED], "trial 0 is pruned before its first epoch"),
        ([created(0), epoch(0, 1, 0.5), selected(member(2))], "trial 2 was never created"),
    ],
)
def test_contradictory_events_are_rejected(events: list[Event], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExperimentState(events)


def test_resumed_run_is_not_ended() -> None:
    started = RunStarted(at=0.0, resumed=True, celltune="1", host="h", pid=1)
    state = ExperimentState([started, RunEnded(at=0.0, reason="interrupted"), started])
    assert state.ended is None


@pytest.mark.parametrize(("accuracy", "expected"), [(0.5, True), (0.6, False), (None, None)])
def test_best_epoch_is_compared_with_the_majority_class(
    accuracy: float | None, expected: bool | None
) -> None:
    event = ExperimentCreated(
        at=0.0, fingerprint="f", majority_class="neg", majority_accuracy=accuracy
    )
    state = ExperimentState([event, created(0), created(1), epoch(0, 1, 0.4), epoch(0, 2, 0.6)])
    assert state.beats_majority(state.trials[0], "valid_accuracy") is expected
    assert state.beats_majority(state.trials[1], "valid_accuracy") is None
