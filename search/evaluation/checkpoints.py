"""Names, metrics and removal of the checkpoints of retrained models."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from celltune.data_prep.types import JSON
from celltune.search.ledger.events import EvaluationReported
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
    """Return the metrics of each completed epoch from the state in a retraining's checkpoint."""
    curve = meta.get("curve")
    epochs = curve if isinstance(curve, list) else []
    return [
        {name: value for name, value in epoch.items() if isinstance(value, float)}
        for epoch in epochs
        if isinstance(epoch, dict)
    ]


def remove_used_checkpoints(experiment: Experiment, state: ExperimentState) -> None:
    """Remove the checkpoints of all retrained models that have been scored."""
    for event in state.evaluations:
        if isinstance(event, EvaluationReported):
            for suffix in (LAST, BEST):
                with suppress(OSError):
                    name = retraining_name(event.seed, event.on) + suffix
                    experiment.checkpoints(event.number).remove(name)
