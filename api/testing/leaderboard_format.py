"""Contract tests for leaderboard formats; they need pytest.

Subclass `LeaderboardFormatContract` in a test module, set the registered name and read the output:

    class TestMyFormat(LeaderboardFormatContract):
        name = "my_format"

        def trials(self, output):
            return [int(line.split(",")[1]) for line in output.splitlines()[1:]]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

from celltune.search.extensions import LEADERBOARD_FORMATS
from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.formats import Rendered, render
from celltune.search.results.ranking import RankedSearch, ranking
from celltune.search.results.tables import TextTable
from celltune.search.types import ParameterValue

DIFFICULT_TEXT = 'a|b,"c";\td\n<i>&amp; $x_1$ \\ 50 % #{y}~^ \x1b[31m[red]日本'
"""Characters that end a cell or start markup in common formats."""


def leaderboard_rows(*fingerprints: str) -> list[dict[str, Any]]:
    """Return the leaderboard of one search per fingerprint, with trials of every status.

    The rows contain missing values, columns with text and numbers, and `DIFFICULT_TEXT`.
    """
    searches = [
        RankedSearch(f"search {index}", _state(fingerprint))
        for index, fingerprint in enumerate(fingerprints)
    ]
    return ranking(searches, "valid_accuracy")


def _state(fingerprint: str) -> ExperimentState:
    params: list[dict[str, ParameterValue]] = [
        {"cell": "gru", "hidden_size": 16384, "dropout": 0.1 + 0.2, "bidirectional": True},
        {"cell": DIFFICULT_TEXT, "hidden_size": 8, "dropout": 0},
        {"cell": "lstm", "hidden_size": "large", "dropout": None},
        {"cell": "mgu"},
    ]
    events: list[Event] = [ExperimentCreated(at=0.0, fingerprint=fingerprint)]
    for number, trial_params in enumerate(params):
        events.append(TrialCreated(at=1.0, number=number, params=trial_params, max_epochs=3))
        if number < 3:
            metrics = {"valid_accuracy": 0.5 + number / 10, "valid_loss": 0.7, "seconds": 1.5}
            events.append(
                EpochReported(at=2.0, number=number, epoch=1, metrics=metrics, checkpoint="epoch-1")
            )
    events.append(TrialStopped(at=3.0, number=0, reason="completed"))
    events.append(TrialStopped(at=3.0, number=1, reason="pruned"))
    events.append(TrialFailed(at=3.0, number=3, error=DIFFICULT_TEXT))
    return ExperimentState(events)


class LeaderboardFormatContract:
    """The requirements of every leaderboard format (see `LeaderboardFormat`)."""

    name: ClassVar[str]
    """Registered name of the format under test."""

    def trials(self, output: Any) -> list[int]:
        """Return the trial numbers in the order in which the output lists them."""
        raise NotImplementedError

    def render(self, rows: Sequence[dict[str, Any]]) -> Rendered:
        """Return the rows in the format under test."""
        return render(rows, self.name)

    def test_is_registered(self) -> None:
        assert self.name in LEADERBOARD_FORMATS
        assert callable(LEADERBOARD_FORMATS.load(self.name))

    def test_output_is_text_or_bytes_or_a_table(self) -> None:
        assert isinstance(self.render(leaderboard_rows("a")), (str, bytes, TextTable))

    def test_output_lists_every_trial_in_order(self) -> None:
        rows = leaderboard_rows("a")
        assert self.trials(self.render(rows)) == [row["trial"] for row in rows]
        assert self.trials(self.render(rows[::-1])) == [row["trial"] for row in rows[::-1]]

    def test_several_searches_are_accepted(self) -> None:
        for fingerprints in (("a", "a"), ("a", "b")):
            rows = leaderboard_rows(*fingerprints)
            assert self.trials(self.render(rows)) == [row["trial"] for row in rows]

    def test_empty_leaderboard_is_accepted(self) -> None:
        assert self.trials(self.render([])) == []

    def test_rows_are_not_changed(self) -> None:
        rows = leaderboard_rows("a", "b")
        before = copy.deepcopy(rows)
        self.render(rows)
        assert rows == before
