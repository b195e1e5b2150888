"""Changes of single config keys: `key.path=value` sets a key, and `~key.path` removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celltune.search.config.problems import shown
from celltune.search.config.yaml_text import MAX_DEPTH, YamlError, comment_of, parse_yaml
from celltune.search.errors import ConfigError
from celltune.spelling import closest_match

REMOVE = "~"
"""First character of an override that removes a key."""

CHANGEABLE_KEYS = (
    "data",
    "resources",
    "baselines",
    "retries",
    "trial_timeout",
    "max_failed",
    "budget.time",
)
"""Config keys that a later run may set. The others define what the metrics mean, or were used when
the experiment was created."""


def key_of(override: str) -> str:
    """Return the dotted key that an override sets or removes."""
    return override.partition("=")[0].strip().removeprefix(REMOVE)


def is_changeable(key: str) -> bool:
    """Return whether a later run, such as a resume, may set a key."""
    return any(f"{key}.".startswith(f"{allowed}.") for allowed in CHANGEABLE_KEYS)


def check_changeable(override: str) -> None:
    """Check that an override is one of a key that a later run may set.

    Raises:
        ConfigError: it is not.
    """
    key = key_of(override)
    if is_changeable(key):
        return
    removed = override.startswith(REMOVE)
    message = (
        f"{f'The key {key}' if removed else f'`overrides` sets {key}, which'} cannot be "
        f"{'removed' if removed else 'changed'} after the launch. Keys that can: "
        f"{', '.join(CHANGEABLE_KEYS)}."
    )
    if key.partition(".")[0] == "budget":
        # In plain words: only a resume has these arguments, but an evaluation can fail here too.
        message += (
            " A resume has its own arguments for trials, max_epochs, target, patience and repeat."
        )
    raise ConfigError(message)


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Change a config in its plain values; keys are removed first, then others are set.

    Args:
        content: the config as YAML contains it; its mappings are changed.
        overrides: see `celltune.search.config.loading.load_config`.

    Raises:
        ConfigError: an override has another form, its value is not YAML, or a key that is removed
            is not set.
    """
    for override in sorted(overrides, key=lambda text: not text.startswith(REMOVE)):
        if override.startswith(REMOVE):
            _remove(content, override.removeprefix(REMOVE).strip())
        else:
            _set(content, override)


def _set(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        raise ConfigError(
            f"`overrides` contains {shown(override)}, which is not of the form key.path=value, "
            "such as budget.trials=40."
        )
    try:
        value = parse_yaml(text)
        comment = comment_of(text)
    except YamlError as error:
        raise ConfigError(f"`overrides` contains {shown(override)}, whose value {error}") from error
    if comment:
        raise ConfigError(
            f"`overrides` contains {shown(override)}, whose value ends before {shown(comment)}, "
            "because # begins a comment in YAML. Put the value in double quotes, and all of it in "
            f"""single quotes for the shell: '{path.strip()}="..."'."""
        )
    section = content
    for key in keys[:-1]:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    section[keys[-1]] = value


def _remove(content: dict[str, Any], path: str) -> None:
    *sections, last = path.split(".")
    place: Any = content
    for depth, key in enumerate((*sections, last)):
        if not isinstance(place, Mapping) or key not in place:
            where = ".".join(sections[:depth])
            present = place if isinstance(place, Mapping) else {}
            hint = closest_match(key, map(str, present)).replace("Allowed:", "Its keys are:")
            raise ConfigError(
                f"The key {shown(path)} cannot be removed: {where or 'the config'} does not set "
                f"{shown(key)}. {hint}"
            )
        if depth < len(sections):
            place = place[key]
    del place[last]
