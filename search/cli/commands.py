"""Registration of commands, and translation of domain messages to command-line options.

Domain code is also called from Python, so its messages name arguments: "`trials` is 'x'". A command
shows the option in place of the argument: "--trials is 'x'".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand

from celltune.errors import CelltuneError

_ARGUMENT = re.compile(r"`(\w+)`")

_NO_SYNONYMS: Mapping[str, str] = MappingProxyType({})


class _Command(TyperCommand):
    """A command whose errors name its options instead of Python arguments."""

    synonyms: ClassVar[Mapping[str, str]] = _NO_SYNONYMS
    """Parameters of the command by the names that messages use instead."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CelltuneError as error:
            message = name_options(str(error), self.params, self.synonyms)
            error.args = (message, *error.args[1:])
            raise


def add_command(
    app: typer.Typer,
    command: Callable[..., None],
    name: str | None = None,
    synonyms: Mapping[str, str] = _NO_SYNONYMS,
) -> None:
    """Add a function to the command table.

    Args:
        app: the command table.
        command: the function.
        name: name of the command; None: the name of the function.
        synonyms: parameters of the command by the names that error messages use instead, such as
            `{"name": "names"}` if the messages are about one name and the command takes several.
    """
    command_class = type("Command", (_Command,), {"synonyms": synonyms})
    app.command(name, cls=command_class)(command)


def name_options(
    message: str, parameters: Sequence[Any], synonyms: Mapping[str, str] = _NO_SYNONYMS
) -> str:
    """Replace each argument in backticks by the option or the metavar of the command's parameter.

    An argument that is not a parameter of the command only loses its backticks.
    """
    shown = {parameter.name: _shown(parameter) for parameter in parameters}
    for synonym, parameter in synonyms.items():
        shown[synonym] = shown[parameter]
    return _ARGUMENT.sub(lambda match: shown.get(match[1], match[1]), message)


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        metavar: str = parameter.metavar or parameter.name.upper()
        return metavar
    long: list[str] = [option for option in parameter.opts if option.startswith("--")]
    return (long or parameter.opts)[0]
