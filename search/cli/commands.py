"""Registration of commands, and translation of domain messages to command-line options.

Domain code is also called from Python, so its messages name arguments: "`trials` is 'x'". A command
shows the option in place of the argument: "--trials is 'x'". In the same way, "`data.seed: 3`", a
line of a config, becomes "--set data.seed=3" if the command has that option.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from celltune.errors import CelltuneError
from celltune.printable import printable
from celltune.search.config.problems import problem_text, with_subject
from celltune.search.errors import OptionError

_ARGUMENT = re.compile(r"`(\w+)`")
_SETTING = re.compile(r"`([a-z_]+(?:\.\w+)+): ([^`]*)`")
_NOT_IN_DOUBLE_QUOTES = re.compile(r'["$\\!`]')
_USAGE_ERROR: Any = typer.BadParameter.__base__
"""The base class of typer's usage errors, which typer does not export."""
_UNKNOWN_OPTION: Any = getattr(sys.modules[_USAGE_ERROR.__module__], "NoSuchOption", _USAGE_ERROR)
"""The usage error for an unknown option."""
_ELSEWHERE = {"overrides": "--set", "warm_start": "--from", "time": "--time-budget"}
"""Options of other commands that messages recommend."""
_LONGEST_SENTENCE = 300
_AT_END = ExitStack()
"""What is closed when a command ends."""


class Group(TyperGroup):
    """A table of commands whose usage errors are printable."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options of the table itself."""
        with _printable_usage():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Find a command, parse its arguments and call it."""
        with _printable_usage():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with their whole first sentences, which typer would cut."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [
            (name, command.get_short_help_str(_LONGEST_SENTENCE))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl(shown)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """Make the message of a usage error printable: it quotes arguments, such as names of files."""
    try:
        yield
    except _USAGE_ERROR as error:
        error.message = printable(error.message)
        raise


class _Command(TyperCommand):
    """A command whose errors name its options instead of Python arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; an invalid value is an error like those of domain code."""
        try:
            return super().parse_args(ctx, args)
        except _UNKNOWN_OPTION as error:
            if any(parameter.name == "texts" for parameter in self.params):
                error.message += " A text that begins with a dash needs -- before it."
            raise
        except typer.BadParameter as error:
            # A subclass is about a missing argument, where the usage helps.
            if type(error) is not typer.BadParameter:
                raise
            raise OptionError(_invalid_value(error)) from error

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CelltuneError as error:
            error.args = tuple(
                name_options(text, self.params) if isinstance(text, str) else text
                for text in error.args
            )
            raise
        finally:
            _AT_END.close()


def at_end(callback: Callable[[], None]) -> None:
    """Call a function when the command ends, before an error is shown."""
    _AT_END.callback(callback)


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add a function to the command table, under its own name if `name` is None."""
    app.command(name, cls=_Command)(command)


def name_options(message: str, parameters: Sequence[Any]) -> str:
    """Replace each argument in backticks by the option or the metavar of the command's parameter.

    An argument of another command has the option that it has there; others only lose their
    backticks.
    """
    shown: dict[str, str] = {p.name: _shown(p) for p in parameters}
    options = {**_ELSEWHERE, **shown}
    has_set = "overrides" in shown
    message = _SETTING.sub(lambda match: _setting(match[1], match[2], has_set), message)
    return _ARGUMENT.sub(lambda match: options.get(match[1], match[1]), message)


def _setting(key: str, value: str, has_option: bool) -> str:
    """Return a key of a config and its value, ready to paste into a shell if there is an option."""
    if not has_option:
        return f"{key}: {value}"
    text = f"{key}={value}"
    # What contains single quotes, as lists of classes do, is easier to read in double quotes.
    if "'" in text and not _NOT_IN_DOUBLE_QUOTES.search(text):
        return f'--set "{text}"'
    return f"--set {shlex.quote(text)}"


def _invalid_value(error: typer.BadParameter) -> str:
    """Return a sentence about an invalid value of an option or argument."""
    if isinstance(error.__cause__, ValidationError) and error.param is not None:
        problem = problem_text(error.__cause__.errors()[0])
        return with_subject(_shown(error.param), problem)
    return f"{error.format_message().rstrip('.')}."


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        metavar: str = parameter.metavar or parameter.name.upper()
        return metavar
    long: list[str] = [option for option in parameter.opts if option.startswith("--")]
    return (long or parameter.opts)[0]
