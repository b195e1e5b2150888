"""The keys of a config, each with its type, default, allowed values and help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from celltune.data_prep.config import SOURCE_KEYS
from celltune.data_prep.extensions import SOURCES
from celltune.printable import quoted
from celltune.search.config.overrides import is_changeable
from celltune.search.config.reference.json_schema import (
    Schema,
    config_schema,
    resolved,
    sections_of,
)
from celltune.search.config.settings import SELECTORS
from celltune.search.config.yaml_text import dump_yaml
from celltune.search.errors import ConfigError
from celltune.spelling import closest_match

_SPACE = "space"
_SAME = {"published.stand_in": "data"}
"""Sections with the keys of another one."""


@dataclass(frozen=True)
class Key:
    """A key of a config."""

    path: str
    """The dotted path, such as data.max_tokens."""
    help: str
    kind: str
    """What values are allowed, such as `a whole number of at least 1`."""
    names: tuple[str, ...] = ()
    """The allowed names, if only some are."""
    default: str | None = None
    """The default as in YAML; None if there is none."""
    required: bool = False
    condition: str = ""
    """When the key can be set; empty: always."""
    is_section: bool = False
    same_as: str = ""
    """The section whose keys this section has; empty: its own."""

    @property
    def section(self) -> str:
        """The path of the section that contains the key; empty for the top level."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def values(self) -> tuple[str, ...]:
        """Values to propose: the allowed names or true and false, else the default if any."""
        if self.names or self.kind.startswith("true or false"):
            return self.names or ("true", "false")
        return () if self.default is None or self.is_section else (self.default,)

    @property
    def changeable(self) -> bool:
        """Whether a later run, such as a resume, may set the key."""
        return is_changeable(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of the help."""
        first, dot, _ = self.help.partition(". ")
        return first + (dot.strip() or "")


def config_keys() -> dict[str, Key]:
    """Return all keys by their paths; the keys of a section follow it.

    Raises:
        ExtensionError: see `config_schema`.
    """
    schema = config_schema()
    return {key.path: key for key in _keys(schema, "", schema["$defs"], "")}


def find_key(path: str, keys: Mapping[str, Key]) -> Key:
    """Return the key of a path.

    Raises:
        ConfigError: there is none; the message names the most similar one.
    """
    for section, other in _SAME.items():
        if path.startswith(f"{section}."):
            path = f"{other}{path.removeprefix(section)}"
    if path in keys:
        return keys[path]
    section = path.rpartition(".")[0]
    inside = {key.name: key.path for key in keys.values() if key.section == section}
    if section and inside and not get_close_matches(path, keys, n=1, cutoff=0.9):
        hint = closest_match(path.rpartition(".")[2], inside)
        raise ConfigError(f"{quoted(path)} is not a key of a config. {hint}")
    by_word = {
        **{key.name: key.path for key in reversed(list(keys.values()))},
        **{p: p for p in keys},
    }
    close = get_close_matches(path[:100], by_word, n=1)
    top = [key.path for key in keys.values() if not key.section]
    hint = f"Did you mean '{by_word[close[0]]}'?" if close else f"Allowed: {', '.join(top)}."
    raise ConfigError(f"{quoted(path)} is not a key of a config. {hint}")


def _keys(
    section: Schema, path: str, definitions: Mapping[str, Schema], condition: str
) -> Iterator[Key]:
    for name, schema in section["properties"].items():
        key = f"{path}.{name}" if path else name
        sections = sections_of(schema, definitions)
        if path == _SPACE or not sections:
            required = name in section.get("required", ())
            yield _key(key, schema, definitions, condition or _sources(key), required=required)
            continue
        same = _SAME.get(key, "")
        yield Key(
            key,
            resolved(schema, definitions)["description"],
            kind="a section" if key != _SPACE else "a section: each key a value, choice or range",
            default=_default_of_section(key, schema, section),
            required=name in section.get("required", ()),
            is_section=True,
            same_as=same,
        )
        if not same:
            yield from _keys_of_sections(key, sections, definitions)


def _keys_of_sections(
    path: str, sections: list[Schema], definitions: Mapping[str, Schema]
) -> Iterator[Key]:
    """Yield the keys of a section; those that only some implementations have, with a condition."""
    selector = SELECTORS.get(path)
    seen: dict[str, Key] = {}
    for schema in sections:
        condition = ""
        if selector is not None:
            condition = f"with {path}.{selector.key} {schema['properties'][selector.key]['const']}"
        for key in _keys(schema, path, definitions, condition):
            seen.setdefault(key.path, key)
    for key in seen.values():
        if selector is None:
            yield key
        elif key.name == selector.key:
            names = selector.registry.names()
            yield Key(key.path, key.help, _NAMES, names, selector.default)
        elif key.name in selector.base.model_fields:
            yield Key(key.path, key.help, key.kind, key.names, key.default)
        else:
            yield key


def _key(
    path: str,
    schema: Schema,
    definitions: Mapping[str, Schema],
    condition: str,
    *,
    required: bool,
) -> Key:
    forms = [resolved(form, definitions) for form in schema.get("anyOf", [schema])]
    if path.startswith(f"{_SPACE}."):
        forms = forms[:1]
        forms = [resolved(form, definitions) for form in forms[0].get("anyOf", forms)]
    return Key(
        path,
        schema["description"],
        _listed(list(dict.fromkeys(map(_kind, forms)))),
        tuple(str(name) for form in forms for name in _names(form)),
        None if required or "default" not in schema else _default(schema),
        required,
        condition,
    )


def _default_of_section(path: str, schema: Schema, parent: Schema) -> str | None:
    if path.rpartition(".")[2] in parent.get("required", ()):
        return None
    return "its defaults" if path in SELECTORS else _default(schema)


def _names(form: Schema) -> list[Any]:
    return [form["const"]] if "const" in form else list(form.get("enum", ()))


def _listed(kinds: list[str]) -> str:
    *first, last = kinds
    if not first:
        return last
    return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}"


def _default(schema: Schema) -> str:
    default = schema.get("default")
    if isinstance(default, dict):
        return "its defaults"
    text = dump_yaml([default]).strip().removeprefix("- ").removesuffix("\n...")
    return str(default).replace("'", "") if isinstance(default, list) else text


def _kind(form: Schema) -> str:
    """Return the values that a schema allows in words."""
    kind = form.get("type")
    if _names(form):
        return _NAMES
    if kind in ("integer", "number"):
        noun = "a whole number" if kind == "integer" else "a number"
        return f"{noun}{_bounds(form)}"
    if kind == "array":
        items = form.get("items", {})
        return f"a list of {_PLURALS.get(items.get('type'), 'values')}"
    if kind == "string" and "examples" in form:
        return f"a text such as {form['examples'][0]}"
    if kind == "string" and form.get("format") == "path":
        return "a path"
    return _NOUNS.get(str(kind), "a value")


_NAMES = "one of the names"
_NOUNS = {"string": "text", "null": "null", "boolean": "true or false", "object": "a mapping"}
_PLURALS = {
    "string": "texts",
    "number": "numbers",
    "integer": "whole numbers",
    "object": "mappings",
}
_BOUNDS = (
    ("minimum", "of at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


def _bounds(form: Schema) -> str:
    parts = [f"{word} {_number(form[key])}" for key, word in _BOUNDS if key in form]
    if parts and parts[0].startswith("at most"):
        parts[0] = f"of {parts[0]}"
    return f" {' and '.join(parts)}" if parts else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _sources(key: str) -> str:
    """Return which sources read a key of the data, if only some do."""
    section, _, name = key.partition(".")
    if section != "data" or name not in SOURCE_KEYS:
        return ""
    readers = [
        source
        for source in SOURCES.builtin_names()
        if name in (*SOURCES.load(source).required_keys, *SOURCES.load(source).optional_keys)
    ]
    return f"with data.source {', '.join(readers)}"
