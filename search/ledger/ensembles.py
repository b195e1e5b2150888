"""What an event records of an ensemble: its members, and how good it and the best trial are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from celltune.search.ledger.fields import (
    CheckpointName,
    Count,
    ExperimentName,
    Loss,
    Positive,
    Share,
)
from celltune.search.types import Finite, ParameterValue

_RECORD = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

_ROUNDING = 1e-6
"""Largest difference of a sum of weights from 1."""


class EnsembleMember(BaseModel):
    """The model of a trial after one of its epochs, as a candidate or member of an ensemble."""

    model_config = _RECORD

    experiment: ExperimentName | None = None
    """Name of the member's experiment, in the same storage; None: the experiment of the ledger,
    which may be renamed."""
    number: Count
    """Number of the trial in its experiment."""
    epoch: Positive
    checkpoint: CheckpointName
    """Name of the checkpoint in the trial's folder."""
    weight: Annotated[float, Field(gt=0, le=1)]
    """Weight of the member's probabilities in the average."""
    params: dict[str, ParameterValue]
    """Hyperparameters of the trial."""
    parameters: Count
    """Number of parameters of the model."""
    wide_parameters: Count = 0
    """Number of these that belong to the wide part, which all members share. Older releases did not
    count them for a network on top of the wide part."""
    valid_loss: Loss
    valid_accuracy: Share


def total_parameters(members: Sequence[EnsembleMember]) -> int:
    """Return the number of parameters of an ensemble; those of the wide part count once."""
    own = sum(member.parameters - member.wide_parameters for member in members)
    return own + max((member.wide_parameters for member in members), default=0)


class ValidScores(BaseModel):
    """Scores on the validation split of a model that was selected by it.

    Losses are mean cross-entropies (natural logarithm), accuracies are fractions.
    """

    model_config = _RECORD

    loss: Loss
    accuracy: Share
    estimated_loss: Loss
    """Estimate without the bias of the selection: the selection is repeated without each fold of
    the documents, and its result is scored on this fold."""
    estimated_accuracy: Share


class Gain(BaseModel):
    """A paired difference of two models, averaged over documents, with its standard error."""

    model_config = _RECORD

    mean: Finite
    """Above 0 if the ensemble is better."""
    error: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @property
    def is_clear(self) -> bool:
        """Whether the ensemble is better by more than two standard errors."""
        return self.mean > 2 * self.error


def check_weights(members: Sequence[EnsembleMember]) -> None:
    """Check that members are distinct and their weights sum to 1.

    Raises:
        ValueError: they are not.
    """
    distinct = {(member.experiment, member.number, member.epoch) for member in members}
    if len(distinct) < len(members):
        raise ValueError("a model is a member twice")
    total = sum(member.weight for member in members)
    if abs(total - 1) > _ROUNDING:
        raise ValueError(f"the weights of the members sum to {total:g} instead of 1")
