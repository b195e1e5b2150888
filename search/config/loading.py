"""Read, override, validate and write configs as YAML."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from celltune.data_prep.io.regular import FileTooLargeError, NotRegularFileError, read_regular
from celltune.printable import printable
from celltune.search.config.cut_paths import cut_path_problems
from celltune.search.config.overrides import apply_overrides
from celltune.search.config.problems import problem_text, shown, shown_path, with_subject
from celltune.search.config.schema import SearchConfig
from celltune.search.config.settings import SELECTORS
from celltune.search.config.space import hyperparameters
from celltune.search.config.yaml_text import MAX_BYTES, YamlError, dump_yaml, parse_yaml
from celltune.search.errors import ConfigError
from celltune.search.ledger.fields import NAME, NAME_RULE
from celltune.spelling import closest_match


class Readable(Protocol):
    """A file that can be read as text: a `pathlib.Path` or an object in an object store."""

    def read_text(self, encoding: str) -> str:
        """Return the file's text.

        Raises:
            OSError: the file cannot be read.
        """


MAX_PROBLEMS = 50
"""Number of problems of one config that a message lists."""


def load_config(path: Readable, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read and validate a config file.

    Args:
        path: a YAML file.
        overrides: changes of the form `key.path=value`, with the value written as in YAML, or
            `~key.path`, which removes a key.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    return parse_config(read_yaml(path), origin=_origin(path), overrides=overrides)


def parse_config(
    raw: Mapping[str, Any],
    *,
    origin: str = "The config",
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Validate a config given as plain values.

    Args:
        raw: the config as YAML contains it; it is not modified.
        origin: the config's name in messages.
        overrides: see `load_config`.
        name: the experiment's name, instead of the one in the config.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    content = _copy_mappings(raw)
    apply_overrides(content, overrides)
    if name is not None:
        if not NAME.fullmatch(name):
            raise ConfigError(f"`name` is {shown(name)}. {NAME_RULE}")
        content["name"] = name
    try:
        return SearchConfig.model_validate(content)
    except ValidationError as error:
        entries = error.errors()
        count = "an error" if len(entries) == 1 else f"{len(entries)} errors"
        problems = [_describe(entry, content) for entry in entries[:MAX_PROBLEMS]]
        if len(entries) > MAX_PROBLEMS:
            problems.append(f"and {len(entries) - MAX_PROBLEMS} more")
        raise ConfigError(f"{origin} has {count}:", *problems) from error


def first_problem(error: ValidationError) -> str:
    """Return a description of the first problem in a validation error of a `SearchConfig`."""
    return _describe(error.errors()[0], {})


def read_yaml(path: Readable) -> Mapping[str, Any]:
    """Read a YAML file that contains a mapping.

    Raises:
        ConfigError: the file cannot be read, or does not contain a mapping.
    """
    return _parsed(_content(path), _origin(path))


def _parsed(text: bytes | str, origin: str) -> Mapping[str, Any]:
    try:
        content = parse_yaml(text)
    except YamlError as error:
        raise ConfigError(f"{origin} {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{origin} must map keys to values (name, data, space, ...), but it contains "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}. Start from one of "
            "the files in configs/."
        )
    return content


def dump_config(config: SearchConfig) -> str:
    """Return a config as YAML, including all default values."""
    return dump_yaml(config.model_dump(mode="json"))


def _origin(path: Readable) -> str:
    return f"The config {printable(path, 200)}"


def _content(path: Readable) -> bytes | str:
    origin = _origin(path)
    try:
        # The path of a user's file may be a link; a stored config is opened by its storage.
        if isinstance(path, Path):
            return read_regular(path, limit=MAX_BYTES)
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{origin} cannot be read: {error.strerror or error}. {_fix(error)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{origin} is not UTF-8 text: {error.reason}. Save it as UTF-8."
        ) from error


def _fix(error: OSError) -> str:
    if isinstance(error, (FileTooLargeError, NotRegularFileError)):
        return "Give the path of a YAML file."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Check its permissions."
    return "Check the path."


def _copy_mappings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy_mappings(member) for key, member in value.items()}
    return value


def _describe(error: Any, content: Mapping[str, Any]) -> str:
    """Return a sentence about one entry of `ValidationError.errors()`."""
    location = [str(part) for part in error["loc"]]
    path = shown_path(location)
    if error["type"] == "extra_forbidden":
        return f"{path} is unknown. {closest_match(location[-1], _keys(location[:-1], content))}"
    return with_subject(path, problem_text(error))


def _keys(location: Sequence[str], content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that a section of a config may contain."""
    if list(location) == ["space"]:
        return hyperparameters()
    if len(location) == 1 and location[0] in SELECTORS:
        section = content.get(location[0])
        selected = SELECTORS[location[0]].settings_model(section or {})
        return tuple(selected.model_fields)
    model: Any = SearchConfig
    for key in location:
        annotation = model.model_fields[key].annotation
        members = (annotation, *getattr(annotation, "__args__", ()))
        model = next(m for m in members if isinstance(m, type) and issubclass(m, BaseModel))
    return tuple(model.model_fields)


def resolve(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Validate a config in any of the forms that `launch` accepts, and make its paths absolute.

    Args:
        config: a config, its plain values, or the path of a YAML file.
        overrides: see `load_config`.
        name: the experiment's name, instead of the one in the config.

    Raises:
        ConfigError: the config is invalid; the message lists every problem.
    """
    if isinstance(config, SearchConfig):
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return anchored(parse_config(config, overrides=overrides, name=name))
    origin, content = _origin(Path(config)), _content(Path(config))
    raw = _parsed(content, origin)
    text = content.decode() if isinstance(content, bytes) else content
    problems = cut_path_problems(text, overrides)
    try:
        parsed = parse_config(raw, origin=origin, overrides=overrides, name=name)
    except ConfigError as error:
        others = error.args[1:]
        if not problems or not others:
            raise
        raise _list_of([*problems, *others], origin) from error
    if problems:
        raise _list_of(problems, origin)
    return anchored(parsed)


def _list_of(problems: Sequence[str], origin: str) -> ConfigError:
    count = "an error" if len(problems) == 1 else f"{len(problems)} errors"
    return ConfigError(f"{origin} has {count}:", *problems)


def anchored(config: SearchConfig) -> SearchConfig:
    """Return a copy with absolute paths, so that a resume finds them from any directory."""
    return config.model_copy(
        update={"data": config.data.anchored(), "tracking": config.tracking.anchored()}
    )
