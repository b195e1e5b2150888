"""Types that several subpackages of `celltune.search` share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

ParameterValue = bool | int | float | str | None
"""One value of a hyperparameter, as YAML and JSON represent it."""


def is_wide_only(params: Mapping[str, ParameterValue]) -> bool:
    """Return whether hyperparameters describe the wide part alone: one model, without training."""
    return params.get("wide") == "only"


def max_epochs_of(params: Mapping[str, ParameterValue], max_epochs: int) -> int:
    """Return the number of epochs after which a trial is completed.

    Args:
        params: its hyperparameters. The wide part alone has a single epoch, without training.
        max_epochs: the maximum number of epochs of the budget.
    """
    return 1 if is_wide_only(params) else max_epochs


TEMPERATURES = (0.05, 20.0)
"""The smallest and the largest temperature that calibrates a model. Without a limit, it would be 0
for a model that predicts all documents correctly."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A float that is neither infinite nor NaN."""

Metric: TypeAlias = str
"""Name of a metric in `search.extensions.METRICS`."""

TrainingSplits = Literal["train", "train+valid"]
"""The splits that a model is trained on."""

TRAINING_SPLITS: tuple[TrainingSplits, ...] = get_args(TrainingSplits)

KeptEpoch = Literal["best", "last"]
"""The epoch whose weights are kept: the best one by the metric, or the last one."""


@dataclass(frozen=True)
class EpochReport:
    """An epoch that a worker finished, as the driver receives it."""

    epoch: int
    """Epochs trained so far, so the first one is 1."""
    metrics: dict[str, float]
    checkpoint: str | None
    """Name of the checkpoint's folder within the trial's folder; it is complete on the storage."""
    warnings: tuple[str, ...] = ()
    """Sentences to log, such as a damaged checkpoint that was skipped."""
