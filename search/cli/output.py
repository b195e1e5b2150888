"""Output of commands: lines and tables for people, content for programs, and files.

Everything that a command prints passes this module, which makes text printable: no data can send
control sequences to a terminal or begin a line of its own.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from celltune.printable import printable, printable_lines
from celltune.search.errors import OptionError

_FILE_WIDTH = 200
"""Columns of a table outside a terminal; rich truncates columns of a narrow one."""

_FIRST_COLUMN = re.compile(r" +\S+(?: \S+)*  +(?=\S)")

LONGEST_LINE = 4_000
"""Characters of a line for people; an error or a name that it quotes may have any length."""


_DRAWINGS: list[Callable[[], None]] = []
"""End what is drawn at the bottom of the terminal, such as progress bars."""


def end_before_output(end: Callable[[], None]) -> None:
    """Register what ends a drawing, so that the next output begins on a line of its own.

    Args:
        end: has no effect if the drawing has ended.
    """
    _DRAWINGS.append(end)


def _end_drawings() -> None:
    while _DRAWINGS:
        _DRAWINGS.pop()()


def say(*lines: str, error: bool = False) -> None:
    """Print lines for people: each text is one line, in which a newline is shown as an escape.

    Args:
        lines: the lines.
        error: whether to print to standard error.
    """
    _end_drawings()
    for line in lines:
        typer.echo(printable(line, LONGEST_LINE), err=error)


def say_block(text: str) -> None:
    """Print a text of several lines for people, such as a traceback, indented."""
    say(*(f"  {line}" for line in text.rstrip("\n").split("\n")))


def confirmed(question: str) -> bool:
    """Ask a question that is answered by y or n, and return whether the answer is yes.

    Args:
        question: ends with a question mark.

    Raises:
        OptionError: nobody can answer, because the standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise OptionError(
            f"{question} The standard input is not a terminal, so this cannot be answered. Set "
            "`yes` to go on without the question."
        )
    return typer.confirm(printable(question, LONGEST_LINE))


def emit(content: str) -> None:
    """Print content for programs, such as csv or json: exactly, but printable on a terminal."""
    _end_drawings()
    # `typer.echo` would remove escape sequences, so that programs get other values.
    print(printable_lines(content) if sys.stdout.isatty() else content, flush=True)  # noqa: T201


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command, for programs.

    Args:
        value: texts, finite numbers, booleans, None, and lists and objects of them. Lone surrogates
            and all other characters outside of ASCII are printed as JSON's escapes.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    emit(json.dumps(value, indent=2, allow_nan=False))


class TextConsole(Console):
    """A console without markup, which makes the text of everything that it draws printable."""

    def __init__(self, **settings: Any) -> None:
        """Create a console.

        Args:
            settings: of `rich.console.Console`.
        """
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments of text and the control codes that draw something.

        rich calls this method for everything, also for parts of what it draws. Only rich itself
        makes segments with control codes.
        """
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text == "\n" or text.isprintable():
                yield segment
            else:
                yield Segment(printable_lines(text), style)


def make_console() -> Console:
    """Return a console for tables; outside a terminal it is 200 columns wide."""
    _end_drawings()
    return TextConsole() if sys.stdout.isatty() else TextConsole(width=_FILE_WIDTH)


def wrapped(console: Console, *lines: str) -> None:
    """Print lines for people; those that are too long for a terminal are wrapped between words."""
    for line in lines:
        text = printable(line, LONGEST_LINE)
        if console.is_terminal:
            console.print(hanging(console, text))
        else:
            console.print(text, soft_wrap=True)


def hanging(console: Console, line: str) -> Text:
    """Wrap a line between words; further lines begin below the second column, if it has columns.

    Args:
        console: the terminal.
        line: printable; columns are separated by two spaces, and the first one is indented.
    """
    found = _FIRST_COLUMN.match(line)
    indent = cell_len(found[0]) if found else 0
    start = found.end() if found and indent * 3 <= console.width * 2 else 0
    parts = Text(line[start:]).wrap(console, console.width - (indent if start else 0))
    between = "\n" + (" " * indent if start else "")
    return Text(line[:start] + between.join(part.plain.rstrip() for part in parts))


def say_next(commands: Mapping[str, str]) -> None:
    """Print what can be done next: for each command its purpose."""
    width = max(map(len, commands))
    lines = (f"  {command:{width}}   {purpose}" for command, purpose in commands.items())
    wrapped(make_console(), "Next:", *lines)


def drawn_as_text(renderable: RenderableType) -> str:
    """Return what `make_console` prints outside a terminal."""
    with (console := TextConsole(width=_FILE_WIDTH, file=io.StringIO())).capture() as captured:
        console.print(renderable)
    return captured.get()


class _PrintableRecord(logging.LogRecord):
    """A log record whose message and traceback are printable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = printable_lines("".join(traceback.format_exception(*self.exc_info)))

    def getMessage(self) -> str:  # noqa: N802 (overrides a method of logging)
        return printable_lines(super().getMessage())


def protect_streams() -> None:
    """Make log messages of this process printable, and texts that the encoding lacks escapes."""
    logging.setLogRecordFactory(_PrintableRecord)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


# ---------------------------------------------------------------------------------------------
# Files: written atomically, and never over an existing file by accident


def check_output_free(path: Path, overwrite: bool) -> None:
    """Check that a file can be written before its content is computed.

    Raises:
        OptionError: the path is a folder or a special file, its folder is missing, or the file
            exists and `overwrite` is false.
    """
    if path.is_dir():
        raise OptionError(f"{path} is a folder. Choose a file name.")
    if path.exists() and not path.is_file():
        raise OptionError(f"{path} is a device or another special file. Choose another path.")
    if path.exists() and not overwrite:
        raise OptionError(f"{path} already exists. Choose another name or set `overwrite`.")
    if not path.parent.is_dir():
        raise OptionError(f"The folder {path.parent} does not exist. Create it first.")


def write(path: Path, content: str | bytes, overwrite: bool) -> None:
    """Write a file atomically: a temporary file in the same folder is renamed.

    Args:
        path: the file.
        content: lone surrogates of a text, which UTF-8 lacks, are written as escapes.
        overwrite: whether to replace an existing file.

    Raises:
        OptionError: as for `check_output_free`, or the file cannot be written.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with writing(path, overwrite) as file:
        file.write(data)


@contextmanager
def writing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file in the same folder, which becomes `path` if the context ends normally.

    Args:
        path: the file.
        overwrite: whether to replace an existing file.

    Raises:
        OptionError: as for `check_output_free`, or the file cannot be written.
    """
    check_output_free(path, overwrite)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written: {error.strerror}. Choose another path."
        ) from error
