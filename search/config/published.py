"""A model that others published: where, and what they reported. Read by ``celltune compare``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from celltune.data_prep.config import DataConfig
from celltune.search.types import KeptEpoch, TrainingSplits

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Reported(BaseModel):
    """The source's own figures; what it doesn't tell is left out."""

    model_config = _STRICT

    train_accuracy: Share | None = None
    """Share of right answers on what it learned from."""
    valid_accuracy: Share | None = None
    """On the part that was held out while training."""
    test_accuracy: Share | None = None
    """On the test part."""
    train_loss: Amount | None = None
    """Cross-entropy on what it learned from, on the source's own scale."""
    test_loss: Amount | None = None
    """Cross-entropy on the test part, on the source's own scale."""
    parameters: Annotated[int, Field(ge=1)] | None = None
    """Numbers in the model."""
    seconds: Amount | None = None
    """Of training."""


class Published(BaseModel):
    """Where a model was published, what was reported, and how it was trained there."""

    model_config = _STRICT

    source: str = Field(min_length=1)
    """Title of the publication."""
    reported: Reported = Reported()
    """What it reports."""
    learned_from: TrainingSplits = "train"
    """The splits that the model is trained on. With train+valid only the test split is held out."""
    keep: KeptEpoch = "last"
    """Epoch whose weights are evaluated: the best one by the config's metric, or the last one."""
    stand_in: DataConfig | None = None
    """Data to take where files that `data` names aren't there; the table says so."""
