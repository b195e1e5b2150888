"""Assertions about a search."""

from __future__ import annotations

from celltune.search.ledger.state import ExperimentState


def assert_all_ended(state: ExperimentState, trials: int) -> None:
    """Assert that a budget of `trials` is used up and that all trials ended."""
    assert len(state.trials) >= trials
    assert state.count("unfinished") == 0
