"""Names and cleanup of the checkpoints of retrained models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from celltune.search.ledger.events import EvaluationReported
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment

if TYPE_CHECKING:
    from celltune.search.types import TrainingSplits


def retraining_name(seed: int, on: TrainingSplits) -> str:
    """What the checkpoints of a retraining are called, beside its trial's own."""
    return f"evaluation-{seed}-{on.replace('+', '-')}"


def remove_used_checkpoints(folder: Experiment, state: ExperimentState) -> None:
    """Remove the checkpoints of what was measured."""
    for event in state.evaluations:
        if isinstance(event, EvaluationReported):
            for kind in ("-last", "-best"):
                with suppress(OSError):
                    name = retraining_name(event.seed, event.on) + kind
                    folder.checkpoints(event.number).remove(name)
