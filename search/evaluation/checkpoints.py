"""Names, metrics and removal of the checkpoints of retrained models."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.search.ledger.evaluations import EvaluationReported
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment

if TYPE_CHECKING:
    from celltune.search.types import TrainingSplits

LAST, BEST = "-last", "-best"
"""Suffixes of the checkpoints of a retraining's last and best epoch."""


def retraining_name(seed: int, on: TrainingSplits) -> str:
    """Return the name of a retraining's checkpoints in the folder of its trial."""
    return f"evaluation-{seed}-{on.replace('+', '-')}"


def curve_of(meta: Mapping[str, JSON]) -> list[dict[str, float]]:
    """Return the metrics of each completed epoch from the state in a retraining's checkpoint.

    Raises:
        CheckpointError: an epoch has no valid duration.
    """
    curve = meta.get("curve")
    metrics = [
        {name: value for name, value in epoch.items() if isinstance(value, float)}
        if isinstance(epoch, dict)
        else {}
        for epoch in (curve if isinstance(curve, list) else [])
    ]
    for number, epoch in enumerate(metrics, start=1):
        if not epoch.get("seconds", -1.0) >= 0:
            raise CheckpointError(f"The state has no valid duration of epoch {number}.")
    return metrics


def remove_used_checkpoints(experiment: Experiment, state: ExperimentState) -> None:
    """Remove the checkpoints of all retrained models that have been scored."""
    for event in state.evaluations:
        if isinstance(event, EvaluationReported):
            for suffix in (LAST, BEST):
                with suppress(OSError):
                    name = retraining_name(event.seed, event.on) + suffix
                    experiment.checkpoints(event.number).remove(name)
