"""The order of trials: by the metric, but above the wide part alone only if they improve on it.

The wide part alone (a trial with `wide: only`) is the simplest model of a search. A network on top
of it is preferred only if the gain is larger than its standard error (the one-standard-error rule:
L. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3), because the best of
many trials on few documents is often no better than the simplest one. The error is that of the
cross-entropy, which tells little about metrics such as macro-F1, above all if classes are weighted
in training: by metrics other than accuracy and loss, every gain counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from celltune.search.ledger.events import EpochReported, ExperimentCreated
from celltune.search.objective import BY_ACCURACY, sign
from celltune.search.types import Metric, is_wide_only

if TYPE_CHECKING:
    from celltune.search.ledger.state import TrialRecord

ENOUGH_DOCUMENTS = 1000
"""Validation documents from which on a gain of one standard error suffices; below, it takes two."""


class Standing(IntEnum):
    """What a trial is in comparison with the wide part alone, the best first."""

    BETTER = 0
    """Better by more than noise, or there is no wide part alone."""
    REFERENCE = 1
    """The wide part alone."""
    NO_BETTER = 2
    """No better, or not by more than noise."""


SortKey: TypeAlias = tuple[Standing, float, float]
"""Sorts trials, the best first: the standing, the negated metric (if larger values are better) and
the validation loss of the best epoch. Trials with equal keys share a rank."""


def sort_keys(
    trials: Sequence[tuple[ExperimentCreated | None, TrialRecord]], metric: Metric
) -> list[SortKey | None]:
    """Return the sort key of each trial; None for those without an epoch.

    A trial is compared with the best wide part alone of the same data.

    Args:
        trials: all trials of one or more searches, each with the first event of its search.
        metric: the metric that ranks.
    """
    direction = sign(metric)
    best = [trial.best(metric) for _, trial in trials]
    references: dict[str | None, float] = {}
    for (created, trial), epoch in zip(trials, best, strict=True):
        if epoch is not None and is_wide_only(trial.params):
            value = direction * epoch.metrics[metric]
            data = _data_of(created)
            references[data] = max(value, references.get(data, value))
    keys: list[SortKey | None] = []
    for (created, trial), epoch in zip(trials, best, strict=True):
        if epoch is None:
            keys.append(None)
            continue
        value = direction * epoch.metrics[metric]
        standing = Standing.BETTER
        if is_wide_only(trial.params):
            standing = Standing.REFERENCE
        elif (reference := references.get(_data_of(created))) is not None and not _improves(
            epoch, value - reference, created, metric
        ):
            standing = Standing.NO_BETTER
        keys.append((standing, -value, epoch.metrics.get("valid_loss", 0.0)))
    return keys


def _data_of(created: ExperimentCreated | None) -> str | None:
    return created.fingerprint if created else None


def _improves(
    epoch: EpochReported, difference: float, created: ExperimentCreated | None, metric: Metric
) -> bool:
    """Return whether an epoch is better than the wide part alone.

    Args:
        epoch: the best epoch of a trial.
        difference: how much better its metric is.
        created: contains the number of validation documents.
        metric: the metric that ranks.
    """
    gain, error = epoch.metrics.get("wide_gain"), epoch.metrics.get("wide_gain_error")
    # A trial that does not contain the wide part has no measured gain.
    if gain is None or error is None or metric not in BY_ACCURACY:
        return difference > 0
    documents = (created.valid_reviews if created else None) or 0
    errors = 1 if documents >= ENOUGH_DOCUMENTS else 2
    return difference >= 0 and gain > errors * error
