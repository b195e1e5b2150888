"""What the shell completes: names of experiments, keys of configs with their values, and formats.

A completion must be fast and silent: what cannot be read has no completions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from celltune.errors import CelltuneError

_REQUEST = "_CELLTUNE_COMPLETE"
"""Variable with which the shell asks for completions instead of a command."""
_WORDS, _CURRENT = "COMP_WORDS", "COMP_CWORD"
"""Variables in which bash gives the words of the line and the number of the current one."""
_KEY = "_CELLTUNE_KEY"
"""Variable with the key and the = before the current word, which bash took for words of their own.
"""


def join_words() -> None:
    """Undo that bash divides the words of a line at `=`, if it asks for completions.

    The current word stays what follows its `=`, because that is all that bash replaces.
    """
    if os.environ.get(_REQUEST) != "complete_bash" or _WORDS not in os.environ:
        return
    words = os.environ[_WORDS].split("\n")
    current = int(os.environ.get(_CURRENT) or 0)
    joined: list[str] = []
    for index, word in enumerate(words[: current + 1]):
        if len(joined) > 1 and "=" in (word, words[index - 1]):
            joined[-1] += word
        else:
            joined.append(word)
    key, equals, value = joined[-1].partition("=")
    if equals:
        os.environ[_KEY] = f"{key}="
        joined[-1] = value
    os.environ[_WORDS], os.environ[_CURRENT] = "\n".join(joined), str(len(joined) - 1)


def complete_experiments(ctx: Any, incomplete: str) -> list[str]:
    """Return the names of experiments in a folder; an object store would take too long."""
    from celltune.search.storage.locate import open_storage

    with suppress(CelltuneError, OSError):
        storage = open_storage(ctx.params.get("storage") or os.environ.get("CELLTUNE_STORAGE"))
        if storage.local_folder is not None:
            return [name for name in storage.names() if name.startswith(incomplete)]
    return []


def complete_keys(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys of a config, with their meanings."""
    return [(key.path, key.summary) for key in _keys() if key.path.startswith(incomplete)]


def complete_overrides(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys that can follow --set; of a complete key, its possible values."""
    hidden = os.environ.get(_KEY, "")
    path, equals, _ = f"{hidden}{incomplete}".partition("=")
    keys = [key for key in _keys() if not key.is_section and key.path.startswith(path)]
    if equals:
        keys = [key for key in keys if key.path == path]
    elif len(keys) > 1:
        return [(f"{key.path}=", key.summary) for key in keys]
    found = [(f"{key.path}={v}", key.summary) for key in keys for v in key.values or ("",)]
    return [(text.removeprefix(hidden), summary) for text, summary in found]


def complete_names(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return a completion of some names, such as those of formats."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _keys() -> Sequence[Any]:
    from celltune.search.config.reference.keys import config_keys

    with suppress(CelltuneError):
        return list(config_keys().values())
    return []
