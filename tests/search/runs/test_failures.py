"""The history of failures of trials."""

from __future__ import annotations

from celltune.search.ledger.events import (
    BudgetChanged,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    WorkerLost,
)
from celltune.search.runs.failures import Failure, failures

EVENTS = [
    ExperimentCreated(at=1.0, fingerprint="f"),
    *(TrialCreated(at=1.0, number=n, params={}, max_epochs=2) for n in range(2)),
    WorkerLost(at=2.0, number=0, error="killed by signal 9", cause="lost"),
    TrialFailed(at=3.0, number=1, error="it broke", details="Traceback\n  x"),
    WorkerLost(at=4.0, number=0, error="no epoch in 3 s", cause="hung"),
    BudgetChanged(at=5.0, trials=2, max_epochs=2, retried=[1]),
]


def test_failures_are_listed_in_their_order() -> None:
    assert failures(EVENTS) == [
        Failure(0, 2.0, "lost its worker, because its worker died: killed by signal 9"),
        Failure(1, 3.0, "failed: it broke", "Traceback\n  x"),
        Failure(0, 4.0, "lost its worker, because it hung: no epoch in 3 s"),
        Failure(1, 5.0, "was retried by a resume."),
    ]
    assert [failure.at for failure in failures(EVENTS, 1)] == [3.0, 5.0]
    assert failures(EVENTS[:3]) == []
