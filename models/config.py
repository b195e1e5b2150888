"""What a model is and how it is trained, as configs say it. Field docstrings are the CLI's help."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

CELL_NAMES = ("rnn", "lstm", "gru", "gru_reset_before", "mgu")
"""Recurrent cells: the keys of `models.cells.CELLS`, without what it takes to import them."""

Readout = Literal["final", "mean", "max", "last_two_layers"]
Nonlinearity = Literal["tanh", "relu"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]


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
    embedding_std: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    """Standard deviation of the word vectors' starting values; torch's own modules take 1."""
    readout: Readout = "final"
    """What the output layer sees: each direction's final state, the mean or the maximum of all
    states of the review, or the final states of the last two layers side by side."""
    nonlinearity: Nonlinearity = "tanh"
    """The curve of the cell rnn: tanh or relu. Other cells have curves of their own."""
    output_relu: bool = False
    """Cut what the output layer sees off below zero."""

    @field_validator("cell")
    @classmethod
    def _known_cell(cls, name: str) -> str:
        if name in CELL_NAMES:
            return name
        near = difflib.get_close_matches(name.lower(), CELL_NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown cell {name!r}; allowed are {', '.join(CELL_NAMES)}.{hint}")

    @model_validator(mode="after")
    def _fitting_parts(self) -> ModelConfig:
        if self.readout == "last_two_layers" and self.num_layers < 2:
            raise ValueError(
                f"readout last_two_layers needs num_layers of at least 2, not {self.num_layers}. "
                "Set num_layers to 2 or more, or readout to final."
            )
        return self

    @property
    def between_layers(self) -> float:
        """The dropout share between layers: 0 where there is only one layer."""
        if self.num_layers == 1:
            return 0.0
        return self.dropout if self.layer_dropout is None else self.layer_dropout


class TrainingConfig(_Config):
    """How a classifier is trained: with Adam (Kingma & Ba 2015), or stochastic gradient descent."""

    learning_rate: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    """The optimizer's step size."""
    batch_size: int = Field(default=64, ge=1)
    """Reviews per step."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """The most ids of a batch, padding among them, so that batches of long reviews hold fewer than
    batch_size; null: no such limit."""
    gradient_clip: float | None = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Largest Euclidean norm of all gradients together; null doesn't clip."""
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Weight of the L2 penalty, added to the gradients as torch's optimizers do."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """What turns gradients into steps: adam, or sgd with the momentum given."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Share of the last step that sgd takes again; 0 is plain descent. Adam doesn't look at it."""
    precision: Precision = "float32"
    """How a GPU multiplies: float32, tf32, or, with weights in float32, bfloat16 or float16, whose
    losses are scaled to fit its range. The CPU computes in float32 whatever stands here."""
