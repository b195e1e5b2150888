"""What a model is and how it is trained, as configs say it. Field docstrings are the CLI's help."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

CELL_NAMES = ("rnn", "lstm", "gru", "gru_reset_before", "mgu")
"""Recurrent cells: the keys of `models.cells.CELLS`, without what it takes to import them."""

Readout = Literal["final", "mean", "max"]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(_Config):
    """A classifier: embedding, recurrent layers, readout, output layer."""

    cell: str
    """Recurrent cell: rnn, lstm, gru, gru_reset_before or mgu."""
    hidden_size: int = Field(default=64, ge=1)
    """Size of the state of each layer and direction."""
    num_layers: int = Field(default=1, ge=1)
    """Recurrent layers, one on top of the other."""
    bidirectional: bool = False
    """Read the text backwards as well; doubles the recurrent part."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of values dropped in training: of the embedding, between layers, before the output."""
    layer_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share dropped between layers only; as dropout if not given. Means nothing with one layer."""
    embedding_size: int = Field(default=100, ge=1)
    """Size of a word's vector."""
    readout: Readout = "final"
    """What the output layer sees: each direction's final state, or the mean or the maximum of all
    states of the review."""

    @field_validator("cell")
    @classmethod
    def _known_cell(cls, name: str) -> str:
        if name in CELL_NAMES:
            return name
        near = difflib.get_close_matches(name.lower(), CELL_NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown cell {name!r}; allowed are {', '.join(CELL_NAMES)}.{hint}")

    @property
    def between_layers(self) -> float:
        """The dropout share between layers: 0 where there is only one layer."""
        if self.num_layers == 1:
            return 0.0
        return self.dropout if self.layer_dropout is None else self.layer_dropout


class TrainingConfig(_Config):
    """How a classifier is trained, with Adam (Kingma & Ba 2015)."""

    learning_rate: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    """Adam's step size."""
    batch_size: int = Field(default=64, ge=1)
    """Reviews per step."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """The most ids of a batch, padding among them, so that batches of long reviews hold fewer than
    batch_size; null: no such limit."""
    gradient_clip: float | None = Field(default=1.0, gt=0.0)
    """Largest Euclidean norm of all gradients together; null doesn't clip."""
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Weight of the L2 penalty, added to the gradients as torch's Adam does."""
