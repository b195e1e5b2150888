from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from celltune.search.ledger.events import RunEnded, RunStarted, TrialCreated
from celltune.search.metrics import wilson
from celltune.search.report.cost import Cost, cost
from celltune.search.wording import approximate_duration
from tests.search.results.test_ranking import MIXED


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_equals_scipy(counted: tuple[int, int]) -> None:
    hits, count = counted
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def run(at: float) -> RunStarted:
    return RunStarted(at=at, resumed=False, celltune="1", host="h", pid=1)


def test_cost_counts_the_epochs_that_early_stopping_saved() -> None:
    total = cost(MIXED, [])
    assert total.epochs == 3 + 1 + 1 + 2
    assert total.seconds == 7 * 1.5
    assert (total.saved_epochs, total.saved_seconds) == (2, 3.0)
    assert total.saved_fraction == pytest.approx(3 / 13.5)
    assert Cost(0, 0.0, 0, 0.0, 0.0).saved_fraction == 0.0


def test_wall_clock_time_counts_only_runs() -> None:
    trial = TrialCreated(at=130.0, number=0, params={}, max_epochs=1)
    events = [
        run(100.0),
        trial,
        run(1000.0),
        RunEnded(at=1010.0, reason="interrupted"),
        run(2000.0),
    ]
    assert cost(MIXED, events).wall_seconds == 30 + 10
    assert cost(MIXED, [*events, trial.model_copy(update={"at": 2005.0})]).wall_seconds == 45


def test_approximate_duration() -> None:
    assert [approximate_duration(s) for s in (3.4, 45, 119, 600, 7200, 90000)] == [
        "3.4 s",
        "45 s",
        "119 s",
        "10 min",
        "2.0 h",
        "25.0 h",
    ]
