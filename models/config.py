"""Hyperparameters of a model and its training. The field docstrings are the help texts."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from celltune.models.class_weights import NAMED, as_text
from celltune.models.extensions import CELLS, READOUTS
from celltune.registry import name_in

Nonlinearity = Literal["tanh", "relu"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
Wide = Literal["none", "add", "only"]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(_Config):
    """The architecture of a classifier: embedding, recurrent layers, readout, output layer."""

    wide: Wide = "none"
    """Use of the wide part, the n-gram linear model that data.wide fits: not at all (none), its
    outputs are added to those of the network (add; Cheng et al. 2016), or no network (only)."""
    cell: name_in(CELLS) | None = None  # type: ignore[valid-type]
    """Recurrent cell: rnn, lstm, gru, gru_reset_before, mgu, or an installed extension. Required,
    except with wide: only."""
    hidden_size: int = Field(default=64, ge=1)
    """Size of the state of each layer and direction."""
    num_layers: int = Field(default=1, ge=1)
    """Number of recurrent layers."""
    bidirectional: bool = False
    """Also read the text backwards, which doubles the recurrent part: true or false."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of values dropped in training: of the embedding, between layers, and before the
    output layer."""
    layer_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Fraction dropped between layers; null: the same as dropout. Unused with one layer."""
    embedding_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Fraction of the values of the word vectors dropped in training; null: the same as dropout."""
    word_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of the words whose vectors are replaced by zero in training, whole and at random
    (Iyyer et al. 2015)."""
    embedding_size: int = Field(default=100, ge=1)
    """Size of a word vector."""
    embedding_std: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    """Standard deviation of the initial word vectors. The default of PyTorch is 1."""
    readout: name_in(READOUTS) = "final"  # type: ignore[valid-type]
    """Input of the output layer: the final state of each direction (final), the mean or maximum of
    all states of the document (mean, max) or both (max_mean), the mean weighted by additive
    attention (attention; Yang et al. 2016), the final states of the last two layers
    (last_two_layers), or an installed extension."""
    nonlinearity: Nonlinearity = "tanh"
    """Activation function of the cell rnn: tanh or relu. Other cells ignore it."""
    output_relu: bool = False
    """Apply a ReLU to the input of the output layer: true or false."""
    output_scale: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Factor of the initial weights and biases of the output layer. With 0.1, a model with wide:
    add starts close to its wide part."""

    @model_validator(mode="after")
    def _check_network(self) -> ModelConfig:
        if self.cell is None and self.wide != "only":
            raise ValueError(
                f"cell is missing. A model with wide '{self.wide}' has a recurrent network: choose "
                f"a cell ({', '.join(CELLS.names())})."
            )
        return self

    @property
    def of_embedding(self) -> float:
        """Dropout of the word vectors."""
        return self.dropout if self.embedding_dropout is None else self.embedding_dropout

    @property
    def between_layers(self) -> float:
        """Dropout between layers; 0 if there is only one layer."""
        if self.num_layers == 1:
            return 0.0
        return self.dropout if self.layer_dropout is None else self.layer_dropout


def _or_weights(schema: dict[str, Any]) -> None:
    """Describe what `class_weights.as_text` accepts in a JSON schema."""
    del schema["type"]
    weight = {"type": "number", "exclusiveMinimum": 0}
    schema["anyOf"] = [
        {"type": "string", "enum": list(NAMED)},
        {"type": "array", "items": weight, "minItems": 1},
        {"type": "object", "additionalProperties": weight, "minProperties": 1},
        {"type": "string", "pattern": r"^\s*[\[{]"},
    ]


class TrainingConfig(_Config):
    """The settings of a training."""

    learning_rate: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    """Step size of the optimizer, the largest one if it varies (warmup_epochs, decay_epochs)."""
    warmup_epochs: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Epochs, also fractions, in which the learning rate rises linearly from 0 (Goyal et al.
    2017); 0: none."""
    decay_epochs: int | None = Field(default=None, ge=1)
    """Epoch at whose end the learning rate, which falls linearly after the warm-up (Devlin et al.
    2019), reaches 0. Later epochs train with 1 % of it, and so do the last steps before; null: the
    learning rate does not fall."""
    batch_size: int = Field(default=64, ge=1)
    """Documents per step."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of ids in a batch, including padding, so that batches of long documents are
    smaller than batch_size; null: no limit."""
    gradient_clip: float | None = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Maximum Euclidean norm of all gradients together; null: no clipping."""
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Weight of the L2 penalty, which adam and sgd add to the gradients. With adamw, the share of
    the learning rate by which each step shrinks the weight matrices of the recurrent layers, the
    readout and the output layer; word vectors and biases do not shrink."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer: adam (Kingma & Ba 2015), adamw with decoupled weight decay (Loshchilov & Hutter
    2019), or sgd with momentum."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Momentum of sgd; 0: plain gradient descent. Unused by adam and adamw."""
    weight_average: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay of the exponential moving average of the weights, such as 0.999, with which the model
    is validated, stored and used (Polyak & Juditsky 1992); training continues with the weights
    themselves. After step k it is at most (1 + k) / (10 + k); null: no average."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the probability of a label that training spreads over all classes (Szegedy et al.
    2016)."""
    class_weights: str = Field(default="none", json_schema_extra=_or_weights)
    """Weights of the classes in the training loss: none, inversely proportional to the number of
    training documents of the class (balanced; King & Zeng 2001), a number for each class in the
    order of data.classes, such as [1, 9], or for some classes, such as {spam: 9}; the others have
    1. Only the ratios count: the mean weight of a training document is 1. The validation loss is
    not weighted."""
    adversarial: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Length of the adversarial perturbation of the word vectors of a document, in units of their
    standard deviation, such as 5 (Miyato et al. 2017). It doubles the time of a step; 0: none."""
    precision: Precision = "float32"
    """Precision of products on a GPU: float32, tf32, or bfloat16 or float16 with float32 weights.
    With float16 the loss is scaled. The CPU always computes in float32."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _check_class_weights(cls, value: object) -> str:
        return as_text(value)


PER_TRIAL = frozenset(
    {
        "dropout",
        "layer_dropout",
        "embedding_dropout",
        "word_dropout",
        "embedding_std",
        "output_scale",
        "learning_rate",
        "warmup_epochs",
        "decay_epochs",
        "gradient_clip",
        "weight_decay",
        "momentum",
        "weight_average",
        "label_smoothing",
        "class_weights",
    }
)
"""Hyperparameters in which packed trials may differ; all others define their common shape."""

PackShape: TypeAlias = tuple[tuple[str, Any], ...]
"""The hyperparameters that packed trials have in common, as (name, value), ordered by name."""


def pack_shape(model: ModelConfig, training: TrainingConfig) -> PackShape:
    """Return the shape of a trial: trials of equal shape can be trained as one batched model.

    Args:
        model: the architecture.
        training: the settings of the training.
    """
    values = {**model.model_dump(), **training.model_dump()}
    return tuple(sorted((name, value) for name, value in values.items() if name not in PER_TRIAL))
