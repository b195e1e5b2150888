"""A published model: its source, its reported results, and how it was trained.

The comparison of published models reads this section of a config; a search ignores it. The section
belongs to the config because the same file describes the model: `space` contains its
hyperparameters, and `data` its data set.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from celltune.data_prep.config import DataConfig
from celltune.search.types import KeptEpoch, TrainingSplits

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

Share = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number of at least 0."""


class Reported(BaseModel):
    """The results that the source reports; null: not reported."""

    model_config = _STRICT

    train_accuracy: Share | None = None
    """Accuracy on the data that the model was trained on, from 0 to 1."""
    valid_accuracy: Share | None = None
    """Accuracy on the validation split, from 0 to 1."""
    test_accuracy: Share | None = None
    """Accuracy on the test split, from 0 to 1."""
    train_loss: NonNegative | None = None
    """Cross-entropy on the data that the model was trained on, in the source's unit."""
    test_loss: NonNegative | None = None
    """Cross-entropy on the test split, in the source's unit."""
    parameters: Annotated[int, Field(ge=1)] | None = None
    """Number of parameters of the model."""
    seconds: NonNegative | None = None
    """Training time in seconds."""


class Published(BaseModel):
    """A published model."""

    model_config = _STRICT

    source: str = Field(min_length=1)
    """Title of the publication."""
    reported: Reported = Reported()
    """Results that the source reports."""
    learned_from: TrainingSplits = "train"
    """The splits that the model is trained on. With train+valid only the test split is held out."""
    keep: KeptEpoch = "last"
    """Epoch whose weights are evaluated: the best one by the config's metric, or the last one."""
    stand_in: DataConfig | None = None
    """Data to use if the files of `data` are missing; the comparison table marks their rows."""
