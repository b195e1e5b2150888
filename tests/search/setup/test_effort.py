"""The effort that is chosen grows with the time, and never exceeds it if less is possible."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.setup.durations import Effort, Work, epoch_seconds, search_seconds
from celltune.search.setup.effort import LONGEST, RUNGS_FROM, choose_effort
from tests.search.setup.surveys import survey

COUNTS = st.lists(st.integers(5, 30_000), min_size=2, max_size=5)
LEAST = 4
"""Trials of the cheapest search."""


def test_the_cost_model_has_the_measured_durations() -> None:
    """Medians of the epochs of benchmarks/quality.py on two cores: books, and IMDB's ratings."""
    books = Work(train=1_280, tokens=225, uncut=230, outputs=1)
    assert epoch_seconds(books, 32, 32) == pytest.approx(1.32, rel=0.15)
    assert epoch_seconds(books, 64, 32) == pytest.approx(2.35, rel=0.15)
    assert epoch_seconds(books, 128, 16) == pytest.approx(4.7, rel=0.15)
    ratings = Work(train=6_400, tokens=309, uncut=330, outputs=4)
    assert epoch_seconds(ratings, 32, 32) == pytest.approx(8.3, rel=0.15)
    assert epoch_seconds(ratings, 64, 16) == pytest.approx(16.3, rel=0.15)
    assert epoch_seconds(ratings, 128, 16) == pytest.approx(32, rel=0.15)


def test_the_budgets_are_those_of_the_quality_page() -> None:
    small = choose_effort(survey((1_000, 1_000)), None, 2)
    assert (small.effort.trials, small.effort.max_epochs) == (8, 6)
    assert small.effort.hidden_sizes == (32, 64, 128)
    assert small.effort.batch_sizes == (16, 32)
    assert not small.effort.has_rungs
    middle = choose_effort(survey((4_000, 4_000), length=40), None, 2)
    assert middle.effort.trials == 12
    assert middle.effort.hidden_sizes == (32, 64)
    assert middle.effort.has_rungs
    large = choose_effort(survey((15_000, 15_000), length=20), None, 4)
    assert large.effort.trials == 16


def test_large_data_gets_shorter_texts_and_fewer_trials_to_fit_the_usual_time() -> None:
    chosen = choose_effort(survey((12_500, 12_500), length=270), None, 2)
    assert chosen.seconds <= 600
    assert chosen.effort.max_tokens == 256
    assert chosen.effort.trials == 12


def test_if_nothing_fits_the_cheapest_effort_is_chosen_and_its_duration_told() -> None:
    chosen = choose_effort(survey((12_500, 12_500), length=270), 30, 2)
    assert chosen.seconds > 30
    assert chosen.effort == Effort((32,), (32,), 128, 4, LEAST, False, False)


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.integers(1, 2_000), st.floats(1, 20_000), st.integers(1, 64))
def test_an_effort_fits_the_time_unless_it_is_the_cheapest(
    counts: list[int], length: int, seconds: float, cores: int
) -> None:
    surveyed = survey(counts, length=length)
    chosen = choose_effort(surveyed, seconds, cores)
    effort = chosen.effort
    assert chosen.seconds <= seconds or effort.trials == LEAST
    assert chosen.seconds == search_seconds(Work.of(surveyed, effort.max_tokens), effort, cores)
    assert effort.max_tokens % 32 == 0
    assert 32 <= effort.max_tokens <= LONGEST
    assert effort.has_rungs == (effort.trials >= RUNGS_FROM)
    more = choose_effort(surveyed, seconds * 10, cores)
    assert more.effort.max_tokens >= effort.max_tokens
    assert len(more.effort.hidden_sizes) >= len(effort.hidden_sizes)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 500), st.integers(1, 500))
def test_more_cores_and_fewer_trials_never_take_longer(
    trials: int, tokens: int, train: int
) -> None:
    work = Work(train, tokens, tokens, 1)

    def seconds(trials: int, cores: int) -> float:
        return search_seconds(work, Effort((32,), (32,), 64, 6, trials, True, False), cores)

    assert seconds(trials, 1) <= seconds(trials + 1, 1)
    assert seconds(trials + 1, 4) <= seconds(trials + 1, 2)
