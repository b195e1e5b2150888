"""Settings of samplers and early-stopping rules: each implementation has its own keys.

A config selects an implementation by name. The remaining keys are validated by the implementation's
`Settings` model, a subclass of one of the base classes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from celltune.registry import ExtensionError, Registry, name_in
from celltune.search.config.problems import shown
from celltune.search.extensions import EARLY_STOPPING, METRICS, SAMPLERS

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = name_in(METRICS)
    """The name of a metric in `METRICS`."""

STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,
    validate_default=True,
)
"""Pydantic settings of every section of a config."""


class SamplerSettings(BaseModel):
    """Base class of a sampler's settings."""

    model_config = STRICT

    name: str = "tpe"
    """The sampler: tpe, or one that an installed package adds."""


class EarlyStoppingSettings(BaseModel):
    """Base class of an early-stopping rule's settings."""

    model_config = STRICT

    title: ClassVar[str] = "early stopping"
    """The rule's name in messages, as in 'stopped by ASHA'."""

    rule: str = "asha"
    """The rule: asha, or one that an installed package adds."""
    by: MetricName = "valid_loss"
    """The metric by which trials are compared. The loss predicts a trial's final result better than
    the accuracy does when only few epochs have been trained."""

    def check_budget(self, max_epochs: int) -> None:
        """Check the settings against budget.max_epochs.

        Raises:
            ValueError: the rule cannot work with this budget.
        """

    def describe(self) -> str:
        """Return the settings in a few words, for a summary of the config."""
        return f"{self.title} by {self.by}"


@dataclass(frozen=True)
class Selector:
    """A section of a config that selects an implementation and holds its settings."""

    registry: Registry[Any]
    key: str
    """The key that names the implementation."""
    default: str
    """The implementation if the key is missing."""
    base: type[BaseModel]
    """Base class of the settings models."""
    optional: bool = False
    """True if the section may be null."""

    def settings_model(self, section: Mapping[str, Any]) -> type[BaseModel]:
        """Return the settings model of the implementation that the section selects.

        Raises:
            ValidationError: the implementation is unknown or cannot be imported.
        """
        name = section.get(self.key, self.default)
        try:
            model: type[BaseModel] = self.registry.load(str(name)).Settings
        except ExtensionError as error:
            problem = PydanticCustomError("extension", "{text}", {"text": str(error)})
            details = InitErrorDetails(type=problem, loc=(self.key,), input=name)
            raise ValidationError.from_exception_data(self.key, [details]) from error
        return model

    def parse(self, section: Any) -> Any:
        """Validate a section with the selected implementation's settings model."""
        if isinstance(section, self.base) or (section is None and self.optional):
            return section
        if not isinstance(section, Mapping):
            # Pydantic reports a ValueError of a validator, but not a TypeError.
            raise ValueError(f"is {shown(section)}. It must map keys to values.")  # noqa: TRY004
        return self.settings_model(section).model_validate(section)

    def dump(self, settings: BaseModel | None) -> dict[str, Any] | None:
        """Return a section as plain values; the key of the default implementation is omitted.

        Stored configs therefore equal those of releases without selectable implementations.
        """
        if settings is None:
            return None
        plain = settings.model_dump(mode="json")
        if plain[self.key] == self.default:
            del plain[self.key]
        common = {name: plain.pop(name) for name in self.base.model_fields if name in plain}
        return {**plain, **common}


SELECTORS: Mapping[str, Selector] = {
    "sampler": Selector(SAMPLERS, "name", "tpe", SamplerSettings),
    "early_stopping": Selector(
        EARLY_STOPPING, "rule", "asha", EarlyStoppingSettings, optional=True
    ),
}
"""The sections of a config that select an implementation, by their keys."""
