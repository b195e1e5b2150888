"""The JSON schema of a config, with which editors complete and check its YAML file.

It is that of the pydantic models, except for what their validators parse themselves: the space, the
first trials, and the settings of the installed samplers and early-stopping rules. Rules about
several keys are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from celltune.search.config.given import largest_allowed
from celltune.search.config.schema import SearchConfig
from celltune.search.config.settings import SELECTORS, Selector
from celltune.search.config.space import OWNERS, number_type

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"


class _Generator(GenerateJsonSchema):
    """Writes no titles of fields, which would only repeat their keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def config_schema() -> Schema:
    """Return the JSON schema of a config (draft 2020-12).

    Raises:
        ExtensionError: an installed sampler or early-stopping rule cannot be imported.
    """
    settings = {key: _settings_models(selector) for key, selector in SELECTORS.items()}
    models: list[type[BaseModel]] = [SearchConfig, *dict.fromkeys(OWNERS.values())]
    models += [model for by_name in settings.values() for model in by_name.values()]
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], schema_generator=_Generator
    )
    known: dict[str, Schema] = definitions["$defs"]

    def take(model: type[BaseModel]) -> Schema:
        return dict(known[_name_of(references[model, "validation"])])

    root = take(SearchConfig)
    owners = {owner: take(owner)["properties"] for owner in OWNERS.values()}
    values = {name: owners[owner][name] for name, owner in OWNERS.items()}
    properties: dict[str, Schema] = dict(root["properties"])
    properties["space"] = {**properties["space"], **_space(values)}
    properties["first_trials"] = {**properties["first_trials"], **_first_trials(values)}
    for key, selector in SELECTORS.items():
        by_name = {name: take(model) for name, model in settings[key].items()}
        properties[key] = {**properties[key], **_section(selector, by_name)}
    result = {"$schema": _DIALECT, **root, "title": "celltune config", "properties": properties}
    _join_lines(result)
    used = {name: known[name] for name in sorted(_referenced(result, known))}
    _join_lines(used)
    result["$defs"] = used
    _add_limits(result)
    return result


def resolved(schema: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """Return a schema with the definition that it refers to, if it does, in its place."""
    if "$ref" not in schema:
        return dict(schema)
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return {**definitions[_name_of(schema)], **rest}


def sections_of(schema: Mapping[str, Any], definitions: Mapping[str, Schema]) -> list[Schema]:
    """Return those of the alternatives of a schema that are mappings with fixed keys."""
    forms = [resolved(form, definitions) for form in (schema, *schema.get("anyOf", ()))]
    return [form for form in forms if "properties" in form]


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).removeprefix(_DEFINITIONS)


def _settings_models(selector: Selector) -> dict[str, type[BaseModel]]:
    return {name: selector.registry.load(name).Settings for name in selector.registry.names()}


def _section(selector: Selector, by_name: Mapping[str, Schema]) -> Schema:
    """Return the schema of a section that selects an implementation."""
    sections = []
    for name, schema in by_name.items():
        properties = dict(schema["properties"])
        chosen = {**properties.pop(selector.key), "const": name}
        chosen.pop("default", None)
        section = {**schema, "properties": {selector.key: chosen, **properties}}
        if name == selector.default:
            chosen["default"] = name
        else:
            section["required"] = [selector.key, *schema.get("required", ())]
        sections.append(section)
    return {"anyOf": [*sections, *([{"type": "null"}] if selector.optional else [])]}


def _space(values: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": {name: _dimension(name, value) for name, value in values.items()},
        "additionalProperties": False,
    }


def _dimension(name: str, value: Schema) -> Schema:
    """Return the schema of a hyperparameter in a space: a value, a choice or a range."""
    facts: Schema = {key: value[key] for key in ("description", "default") if key in value}
    single = {key: part for key, part in value.items() if key not in facts}
    forms = [single, {"type": "array", "items": single, "minItems": 1, "uniqueItems": True}]
    if (kind := number_type(name)) is not None:
        number = {"type": "integer" if kind is int else "number"}
        forms.append(
            {
                "type": "object",
                "properties": {
                    "low": number,
                    "high": number,
                    "log": {"type": "boolean", "default": False},
                    "step": number,
                },
                "required": ["low", "high"],
                "additionalProperties": False,
            }
        )
    return {**facts, "anyOf": forms}


def _first_trials(values: Mapping[str, Schema]) -> Schema:
    single = {
        name: {key: part for key, part in value.items() if key != "default"}
        for name, value in values.items()
    }
    trial = {
        "type": "object",
        "properties": single,
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {"type": "array", "items": trial}


def _referenced(schema: Any, known: Mapping[str, Schema]) -> set[str]:
    """Return the names of the definitions that a schema needs, directly or through others."""
    names: set[str] = set()
    pending = [schema]
    while pending:
        for part in _parts(pending.pop()):
            if "$ref" in part and (name := _name_of(part)) not in names:
                names.add(name)
                pending.append(known[name])
    return names


def _parts(value: Any) -> Iterator[Schema]:
    """Yield all mappings within a value, itself included."""
    if isinstance(value, dict):
        yield value
    members = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for member in members:
            yield from _parts(member)


def _join_lines(schema: Schema) -> None:
    for part in _parts(schema):
        if isinstance(text := part.get("description"), str):
            part["description"] = " ".join(text.split())


def _add_limits(schema: Schema) -> None:
    """Add the largest values that users may give to the schemas of their keys."""
    for key, limit in largest_allowed().items():
        section = schema
        *sections, last = key.split(".")
        for name in sections:
            section = sections_of(section["properties"][name], schema["$defs"])[0]
        for part in _parts(section["properties"][last]):
            if part.get("type") in ("integer", "number"):
                part["maximum"] = min(limit, part.get("maximum", limit))
