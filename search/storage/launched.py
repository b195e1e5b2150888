"""The config that an experiment was launched with: in its ledger and in a file.

The ledger's first event contains the config, because the meaning of all others depends on it. The
file `experiment.yaml` is for people and for scripts. If it says something else than the ledger, it
was edited after the launch, and nobody can know which of the two is meant.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol
from uuid import uuid4

from celltune.printable import printable, quoted
from celltune.search.config.loading import dump_config, load_config, parse_config, read_yaml
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError, ExperimentError, LedgerError
from celltune.search.ledger.events import SCHEMA_VERSION, ExperimentCreated

_log = logging.getLogger(__name__)

_SHOWN = 3
"""Number of differences that a message names."""
_ABSENT = object()


class ConfigFile(Protocol):
    """The file that contains an experiment's config. `pathlib.Path` has these methods."""

    def read_text(self, encoding: str) -> str:
        """Return the content as text.

        Raises:
            OSError: the file is missing, is not a regular file, is too large or cannot be read.
            UnicodeDecodeError: it is not text.
        """

    def write_bytes(self, content: bytes, /) -> object:
        """Replace the content.

        Raises:
            OSError: the file cannot be written.
        """


def created_event(
    config: SearchConfig, *, at: float, fingerprint: str, **facts: Any
) -> ExperimentCreated:
    """Return the first event of a new experiment.

    Args:
        config: the resolved config.
        at: seconds since 1970.
        fingerprint: fingerprint of the prepared data.
        facts: other fields of the event.
    """
    return ExperimentCreated(
        at=at,
        schema_version=SCHEMA_VERSION,
        experiment_id=uuid4().hex,
        fingerprint=fingerprint,
        config=config.model_dump(mode="json"),
        config_sha256=_digest(dump_config(config).encode()),
        **facts,
    )


def renamed_event(created: ExperimentCreated, config: SearchConfig) -> ExperimentCreated:
    """Return the first event of a copy of an experiment under the name in `config`.

    It has an id of its own: lines of the copy and of the original cannot be exchanged.

    Args:
        created: the first event of the original.
        config: its config, with the name of the copy.
    """
    changes = {
        "schema_version": SCHEMA_VERSION,
        "experiment_id": uuid4().hex,
        "config": config.model_dump(mode="json"),
        "config_sha256": _digest(dump_config(config).encode()),
    }
    return created.model_copy(update=changes)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def launched_config(
    file: ConfigFile, created: ExperimentCreated, name: str, *, restore: bool = False
) -> SearchConfig:
    """Return the config that an experiment was launched with.

    Experiments of older releases have it in the file only. Those of this release do not need the
    file: if it is missing or damaged, a warning says so.

    Args:
        file: the experiment's config file.
        created: the first event of its ledger.
        name: the experiment's name, for messages.
        restore: whether to write a missing or damaged file again; the caller holds the lock.

    Raises:
        ConfigError: the file is invalid, and there is no other copy.
        ExperimentError: the file was edited after the launch, or cannot be restored.
        LedgerError: the config in the ledger is invalid.
    """
    if created.config is None:
        return _as_launched(load_config(file))
    launched = _recorded(created.config, name)
    try:
        if _digest(file.read_text("utf-8").encode()) == created.config_sha256:
            return launched
        content = read_yaml(file)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        _log.warning("%s The copy in the ledger is used.", _damage(file, error))
        if restore:
            _restore(file, launched)
        return launched
    if not _same(content, launched):
        raise _edited_error(file, content, created.config, name)
    return launched


def _restore(file: ConfigFile, config: SearchConfig) -> None:
    try:
        file.write_bytes(dump_config(config).encode())
    except OSError as error:
        raise ExperimentError(
            f"The config {file} cannot be restored from the ledger: {error.strerror}. Remove what "
            "is in its place, or fix the permissions."
        ) from error
    _log.warning("The config %s was restored from the ledger.", file)


def _recorded(config: Mapping[str, Any], name: str) -> SearchConfig:
    try:
        recorded = parse_config(config, origin=f"The config in the ledger of '{name}'")
    except ConfigError as error:
        raise LedgerError(" ".join(str(error).split())) from error
    return _as_launched(recorded)


def _as_launched(config: SearchConfig) -> SearchConfig:
    """Return a recorded config with the meaning that its missing keys had when it was recorded.

    Releases that did not record `budget.repeat` repeated configurations.
    """
    if "repeat" in config.budget.model_fields_set:
        return config
    budget = config.budget.model_copy(update={"repeat": True})
    return config.model_copy(update={"budget": budget})


def _damage(file: ConfigFile, error: OSError | UnicodeDecodeError | ConfigError) -> str:
    if isinstance(error, OSError):
        return f"The config {printable(file)} cannot be read: {error.strerror}."
    if isinstance(error, UnicodeDecodeError):
        return f"The config {printable(file)} is not UTF-8 text."
    return " ".join(printable(str(error), 300).split())


def _same(content: Mapping[str, Any], launched: SearchConfig) -> bool:
    """Return whether a file's content means the launched config, however it is written."""
    try:
        config = parse_config(content)
    except ConfigError:
        return False
    return launched in (config, _as_launched(config))


def _edited_error(
    file: ConfigFile, content: Mapping[str, Any], launched: Mapping[str, Any], name: str
) -> ExperimentError:
    found = list(islice(_differences(launched, content), _SHOWN + 1))
    shown = "; ".join(found[:_SHOWN]) + ("; ..." if len(found) > _SHOWN else "")
    return ExperimentError(
        f"The config of '{name}' was edited after the launch: {printable(file)} has {shown}. Its "
        "results belong to the launched config, so undo the edit, or remove the file, which the "
        "ledger can replace. Use `overrides` of a resume or an evaluation for what may change, "
        "such as data.path; for the rest launch a new experiment, which can learn from this one "
        "with `warm_start`."
    )


def _differences(
    launched: Mapping[str, Any], content: Mapping[str, Any], section: str = ""
) -> Iterator[str]:
    """Yield the values of a file that differ from the launched ones."""
    for key in dict.fromkeys([*launched, *content]):
        old, new = launched.get(key, _ABSENT), content.get(key, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{section}{key}.")
        elif old != new or type(old) is not type(new):
            yield f"{printable(f'{section}{key}', 80)} {_shown(new)} instead of {_shown(old)}"


def _shown(value: Any) -> str:
    return "nothing" if value is _ABSENT else quoted(value)
