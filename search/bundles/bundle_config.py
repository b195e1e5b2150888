"""The config.json of a bundle: the models, the text rules and the classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from celltune.data_prep.dataset.names import check_classes
from celltune.data_prep.text.encoder import TextRules
from celltune.models.config import ModelConfig
from celltune.search.decisions import Decision
from celltune.search.types import TEMPERATURES

_FIRST_MODEL_FIELDS = frozenset(
    {
        *("cell", "hidden_size", "num_layers", "bidirectional", "dropout", "layer_dropout"),
        *("embedding_size", "embedding_std", "readout", "nonlinearity", "output_relu"),
    }
)
"""Fields of a model that every release knows."""

# A later release may add fields whose default is the earlier behaviour.
_LENIENT = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

MOST_MEMBERS = 10_000
"""Largest number of models of an ensemble."""

_ROUNDING = 1e-6
"""Largest difference of a sum of weights from 1."""


class BundleMember(BaseModel):
    """One model of an ensemble."""

    model_config = _LENIENT

    model: ModelConfig
    """Architecture of the model."""
    weight: Annotated[float, Field(gt=0, le=1)]
    """Weight of its probabilities in the average."""


class BundleConfig(BaseModel):
    """Content of config.json: a model, or the members of an ensemble."""

    model_config = _LENIENT

    model: ModelConfig | None = None
    """Architecture that the weights belong to; None for an ensemble."""
    members: Annotated[tuple[BundleMember, ...], Field(max_length=MOST_MEMBERS)] = ()
    """The models of an ensemble. The names of the weights of the first one start with `0.`, those
    of the second one with `1.`, and so on."""
    text: TextRules
    """Rules by which text is converted to word ids."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])] | None = None
    """The logits are divided by it; None: 1. Of an ensemble, the logarithms of the averaged
    probabilities are."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Class 1 of two is predicted if its probability is at least this; None: the most probable
    class is predicted."""
    origin: dict[str, Any] = {}
    """Experiment, trial, epoch, metrics, hyperparameters, data and library versions."""

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return check_classes(names)

    @model_validator(mode="after")
    def _check_models(self) -> BundleConfig:
        if (self.model is None) == (not self.members):
            raise ValueError("must contain either a model or the members of an ensemble")
        total = sum(member.weight for member in self.members)
        if self.members and abs(total - 1) > _ROUNDING:
            raise ValueError(f"the weights of the members sum to {total:g} instead of 1")
        return self

    @model_validator(mode="after")
    def _check_threshold(self) -> BundleConfig:
        if self.threshold is not None and len(self.classes) != 2:
            raise ValueError(f"has a threshold, but {len(self.classes)} classes instead of 2")
        return self

    @property
    def decision(self) -> Decision:
        """How the log-probabilities become probabilities and predicted classes."""
        return Decision(self.temperature or 1.0, self.threshold)

    @property
    def architectures(self) -> tuple[ModelConfig, ...]:
        """Architectures of all models."""
        return tuple(model for _, _, model in self.parts())

    def parts(self) -> Iterator[tuple[float, str, ModelConfig]]:
        """Yield each model's weight, the prefix of its weights' names, and its architecture."""
        if self.model is not None:
            yield 1.0, "", self.model
        for index, member in enumerate(self.members):
            yield member.weight, f"{index}.", member.model

    def content(self) -> bytes:
        """Return the content of config.json, without new fields that have their defaults.

        A release that does not know such a field can then read the bundle.
        """
        content = self.model_dump(mode="json", exclude_none=self.model is None)
        for name in ("temperature", "threshold"):
            if content.get(name) is None:
                content.pop(name, None)
        if self.members:
            for member in content["members"]:
                _remove_defaults(member["model"])
        else:
            del content["members"]
            _remove_defaults(content["model"])
        return json_file(content)


def json_file(content: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file, which has no control character outside of escapes."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _remove_defaults(model: dict[str, Any]) -> None:
    for name, field in ModelConfig.model_fields.items():
        if name not in _FIRST_MODEL_FIELDS and model.get(name) == field.default:
            model.pop(name, None)
