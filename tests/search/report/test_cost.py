from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from celltune.search.evaluation.metrics import wilson
from celltune.search.ledger.events import RunEnded, RunStarted, TrialCreated
from celltune.search.report.cost import Cost, cost
from celltune.search.wording import approximate_duration
from tests.search.results.test_ranking import MIXED


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counted: tuple[int, int]) -> None:
    hits, count = counted
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def run(at: float) -> RunStarted:
    return RunStarted(at=at, resumed=False, celltune="1", host="h", pid=1)


def test_the_cost_counts_what_early_stopping_left_out() -> None:
    spent = cost(MIXED, [])
    assert spent.epochs == 3 + 1 + 1 + 2
    assert spent.seconds == 7 * 1.5
    assert (spent.saved_epochs, spent.saved_seconds) == (2, 3.0)
    assert spent.saved_share == pytest.approx(3 / 13.5)
    assert Cost(0, 0.0, 0, 0.0, 0.0).saved_share == 0.0


def test_the_clock_runs_only_while_a_driver_does() -> None:
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


def test_durations_in_words() -> None:
    assert [approximate_duration(s) for s in (3.4, 119, 600, 7200, 90000)] == [
        "3 s",
        "119 s",
        "10 min",
        "2.0 h",
        "25.0 h",
    ]
