"""Registration of commands, and translation of domain messages to command-line options.

Domain code is also called from Python, so its messages name arguments: "`trials` is 'x'". A command
shows the option in place of the argument: "--trials is 'x'".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from celltune.errors import CelltuneError

_ARGUMENT = re.compile(r"`(\w+)`")


class _Command(TyperCommand):
    """A command whose errors name its options instead of Python arguments."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CelltuneError as error:
            error.args = (name_options(str(error), self.params), *error.args[1:])
            raise


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add a function to the command table, under its own name if `name` is None."""
    app.command(name, cls=_Command)(command)


def name_options(message: str, parameters: Sequence[Any]) -> str:
    """Replace each argument in backticks by the option or the metavar of the command's parameter.

    An argument that is not a parameter of the command only loses its backticks.
    """
    shown = {parameter.name: _shown(parameter) for parameter in parameters}
    return _ARGUMENT.sub(lambda match: shown.get(match[1], match[1]), message)


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        metavar: str = parameter.metavar or parameter.name.upper()
        return metavar
    long: list[str] = [option for option in parameter.opts if option.startswith("--")]
    return (long or parameter.opts)[0]
