"""How much to train: the largest search that fits a data set and a time."""

from __future__ import annotations

from dataclasses import dataclass

from celltune.data_prep.preparation.survey import Survey
from celltune.search.setup.durations import Effort, Work, search_seconds, wide_seconds

USUAL_SECONDS = 600.0
"""Longest duration of a search whose time is not given."""
SMALL, LARGE = 3_000, 15_000
"""Training documents from which the next row of the budgets in docs/quality.md applies."""
LONGEST = 512
"""Largest proposed limit of a text's tokens, as in configs/csv.yaml."""
RUNGS_FROM = 12
"""Number of trials from which early stopping compares them: in the same time, more trials with it
find more than fewer without it (decision 39)."""


@dataclass(frozen=True)
class _Trials:
    """Numbers of trials for data of a certain size."""

    usual: int
    most: int


@dataclass(frozen=True)
class _Level:
    """A way to train less than on the level before."""

    hidden_sizes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    longest: int
    max_epochs: int
    least_trials: int

    def effort(self, trials: int, max_tokens: int, has_wide: bool) -> Effort:
        return Effort(
            hidden_sizes=self.hidden_sizes,
            batch_sizes=self.batch_sizes,
            max_tokens=max_tokens,
            max_epochs=self.max_epochs,
            trials=trials,
            has_wide=has_wide,
            has_rungs=trials >= RUNGS_FROM,
        )


_LEVELS = (
    _Level((32, 64, 128), (16, 32), LONGEST, 6, 8),
    _Level((32, 64), (32,), LONGEST, 6, 8),
    _Level((32, 64), (32,), 256, 6, 6),
    _Level((32,), (32,), 256, 4, 5),
    _Level((32,), (32,), 128, 4, 4),
)
"""From the most to the least expensive one. Only small data begins with the first: on more texts,
128 units and batches of 16 had no lower loss than 64 and 32 (docs/quality.md)."""


@dataclass(frozen=True)
class Chosen:
    """An effort and how long it takes."""

    effort: Effort
    seconds: float
    """Expected duration of the search."""


def choose_effort(
    survey: Survey, seconds: float | None, cores: int, *, wide: bool | None = None
) -> Chosen:
    """Return the first effort that fits into the time; the cheapest if none does.

    Args:
        survey: of the documents.
        seconds: time for the search; None for the usual number of trials, in the usual time.
        cores: number of trials that run at the same time.
        wide: whether models have a wide part; None: unless it took more than the whole time, as it
            does with hundreds of classes.
    """
    limit = USUAL_SECONDS if seconds is None else seconds
    train = int(survey.counts["train"].sum())
    trials = _trials(train)
    most = trials.usual if seconds is None else trials.most
    longest = _rounded_up(survey.length_at(0.95))
    has_wide = wide_seconds(Work.of(survey, longest)) <= limit if wide is None else wide
    for level in _LEVELS[0 if train < SMALL else 1 :]:
        max_tokens = min(longest, level.longest)
        work = Work.of(survey, max_tokens)
        for number in range(most, level.least_trials - 1, -1):
            effort = level.effort(number, max_tokens, has_wide)
            chosen = Chosen(effort, search_seconds(work, effort, cores))
            if chosen.seconds <= limit:
                return chosen
    return chosen


def _trials(train: int) -> _Trials:
    if train < SMALL:
        return _Trials(usual=8, most=24)
    return _Trials(usual=12, most=30) if train < LARGE else _Trials(usual=16, most=40)


def _rounded_up(length: int) -> int:
    """Return the next multiple of 32."""
    return -(-length // 32) * 32
