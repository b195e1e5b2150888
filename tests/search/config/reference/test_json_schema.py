"""The JSON schema accepts what the config accepts, and is itself valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from celltune.registry import ExtensionError
from celltune.search.config.loading import dump_config, parse_config
from celltune.search.config.reference import json_schema
from celltune.search.config.reference.json_schema import config_schema
from celltune.search.config.settings import SELECTORS, EarlyStoppingSettings
from celltune.search.config.yaml_text import parse_yaml
from celltune.search.errors import ConfigError
from tests.search.simulated_search import RAW, make_config

CONFIGS = sorted((Path(__file__).parents[4] / "configs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = config_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(validator: Draft202012Validator, config: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(config)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_repository_is_valid(
    validator: Draft202012Validator, path: Path
) -> None:
    assert problems(validator, parse_yaml(path.read_bytes())) == []


def test_a_config_with_all_defaults_is_valid(validator: Draft202012Validator) -> None:
    assert len(CONFIGS) > 10
    assert problems(validator, parse_yaml(dump_config(make_config()))) == []


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("seed", 1, True),
        ("seed", "010", False),
        ("metric", "valid_loss", True),
        ("metric", "speed", False),
        ("budget", {"time": "90s"}, True),
        ("budget", {"time": "1:30"}, False),
        ("budget", {"time": 90.5}, True),
        ("budget", {"trials": 10**7}, False),
        ("budget", {"trails": 3}, False),
        ("data", {"source": "synthetic", "wide": True, "test_size": 9}, True),
        ("data", {"source": "synthetic", "wide": {"words": 9}}, False),
        ("data", {"path": "x.csv", "source": "nowhere"}, False),
        ("space", {"cell": "gru", "hidden_size": [8, 16]}, True),
        ("space", {"cell": "gru", "hidden_size": {"low": 8, "high": 16, "log": True}}, True),
        ("space", {"cell": "gru", "hidden_size": {"low": 8}}, False),
        ("space", {"cell": ["gru", "gruu"]}, False),
        ("space", {"cell": "gru", "hidden": 8}, False),
        ("space", {"cell": "gru", "bidirectional": {"low": 0, "high": 1}}, False),
        ("space", {"cell": "gru", "decay_epochs": [None, 3]}, True),
        ("space", {"cell": "gru", "class_weights": "balanced"}, True),
        ("space", {"cell": "gru", "class_weights": [1, 9]}, True),
        ("space", {"cell": "gru", "class_weights": ["none", [1, 9], {"spam": 9}]}, True),
        ("space", {"cell": "gru", "class_weights": "heavy"}, False),
        ("space", {"cell": "gru", "class_weights": {"spam": "x"}}, False),
        ("first_trials", [{"hidden_size": 8}], True),
        ("first_trials", [{"hidden_size": [8, 16]}], False),
        ("first_trials", [{}], False),
        ("early_stopping", None, True),
        ("early_stopping", {"grace_period": 2}, True),
        ("early_stopping", {"rule": "asha", "reduction_factor": 2}, True),
        ("early_stopping", {"rule": "hyperband"}, False),
        ("sampler", None, False),
        ("sampler", {"name": "tpe", "startup_trials": 0}, False),
        ("tracking", {"tensorboard": True}, True),
        ("tracking", {"tensorboard": 3}, False),
    ],
)
def test_the_schema_agrees_with_the_config(
    validator: Draft202012Validator, key: str, value: Any, valid: bool
) -> None:
    raw = {**RAW, key: value}
    assert (problems(validator, raw) == []) == valid
    if key == "budget" and value.get("trials") == 10**7:
        return  # Limits of what users give are no part of the models.
    if key == "data" and valid:
        raw = {**raw, "space": {"cell": "gru", "wide": "add"}}
    if valid:
        parse_config(raw)
    else:
        with pytest.raises(ConfigError, match="The config has"):
            parse_config(raw)


class HalfSettings(EarlyStoppingSettings):
    """Settings of a rule of another package."""

    title: ClassVar[str] = "half"
    share: float = Field(0.5, gt=0, lt=1)
    """Share of trials that continue."""


class Half:
    Settings = HalfSettings


def test_settings_of_installed_extensions_are_part_of_the_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = SELECTORS["early_stopping"].registry
    load = registry.load
    monkeypatch.setattr(type(registry), "names", lambda self: (*self._builtin, *self.extra))
    monkeypatch.setattr(type(registry), "extra", (), raising=False)
    monkeypatch.setattr(registry, "extra", ("half",), raising=False)
    monkeypatch.setattr(registry, "load", lambda name: Half if name == "half" else load(name))
    validator = Draft202012Validator(config_schema())
    assert problems(validator, {**RAW, "early_stopping": {"rule": "half", "share": 0.2}}) == []
    assert problems(validator, {**RAW, "early_stopping": {"rule": "half", "share": 2}}) != []
    # The keys of a rule are those of the rule that is selected.
    assert problems(validator, {**RAW, "early_stopping": {"share": 0.2}}) != []
    assert problems(validator, {**RAW, "early_stopping": {"rule": "half", "grace_period": 2}}) != []


def test_a_broken_extension_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ExtensionError(f"The sampler '{name}' cannot be imported.")

    monkeypatch.setattr(SELECTORS["sampler"].registry, "load", fail)
    with pytest.raises(ExtensionError, match="The sampler 'tpe' cannot be imported"):
        config_schema()


def test_the_schema_describes_every_key_on_one_line() -> None:
    schema = config_schema()
    keys = [*schema["properties"].items(), *schema["properties"]["space"]["properties"].items()]
    assert all("\n" not in part["description"] for _, part in keys if "$ref" not in part)
    assert sorted(schema["$defs"]) == sorted(json_schema._referenced(schema, schema["$defs"]))
