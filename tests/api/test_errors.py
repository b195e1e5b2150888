from __future__ import annotations

import pickle
import re
from importlib import import_module

from IPython.core.interactiveshell import InteractiveShell

import celltune.data_prep.errors
import celltune.errors
import celltune.models.errors
import celltune.registry
import celltune.search.cluster.task_pool
import celltune.search.errors
from celltune.errors import InputError
from celltune.search.errors import ConfigError


def subclasses(error: type[BaseException]) -> dict[str, type[BaseException]]:
    found = {error.__name__: error}
    for subclass in error.__subclasses__():
        if subclass.__module__.startswith("celltune."):
            found |= subclasses(subclass)
    return found


def test_messages_are_printable_in_tracebacks_too() -> None:
    error = ConfigError("the name '\x1b[31m\nx' has 2 errors:", "a\r", "b")
    assert str(error) == "the name '\\x1b[31m\\nx' has 2 errors:\n  a\\r\n  b"
    assert error.lines == str(error).split("\n")
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 (the test wrote it)
    assert (type(copied), str(copied)) == (ConfigError, str(error))
    assert InputError("\u202ex").lines == [r"\u202ex"]


def test_a_notebook_shows_the_message_of_invalid_input_without_a_traceback() -> None:
    shell, shown = InteractiveShell(), list[str]()
    shell._showtraceback = lambda kind, error, lines: shown.extend(lines)
    error = ConfigError("The config has 2 errors:", "\x1b[31ma", "b")
    shell.showtraceback((ConfigError, error, None))
    assert shown == ["ConfigError: The config has 2 errors:", "  \\x1b[31ma", "  b"]


def test_error_tree_lists_every_error_with_its_parent_and_module() -> None:
    errors = subclasses(celltune.errors.CelltuneError)
    lines = re.findall(r"^    ([│ ├└─]*)(\w+)(?:.*\((\S+)\))?", celltune.errors.__doc__ or "", re.M)
    ancestors: list[type[BaseException]] = []
    for indent, name, module in lines:
        error = errors.pop(name)
        ancestors[len(indent) // 4 :] = [error]
        assert error.__base__ in (ancestors[-2:-1] or [Exception])
        if module:
            assert getattr(import_module(f"celltune.{module}"), name) is error
    assert errors == {}


def test_every_error_says_when_it_is_raised() -> None:
    errors = subclasses(celltune.errors.CelltuneError)
    del errors["CelltuneError"]
    assert [name for name, error in errors.items() if not error.__doc__] == []
