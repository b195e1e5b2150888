"""What a hostile input is, and how the outcome of a command on it is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from _hostile.box import Box

ORIGINAL = "original"
"""The fixtures as they are."""
SECRET = "hunter2"  # noqa: S105 (of nobody)
"""A password in addresses, which no output may contain."""


@dataclass(frozen=True)
class Command:
    """One command of an input.

    Attributes:
        arguments: what is typed after `celltune`.
        stdin: standard input.
        writes: files and folders that it may change, relative to the box.
        numbers: whether its output consists of numbers that can be compared.
        own_process: run it as a process of its own.
        named: the path that the user names for the output; its folder may get temporary files, but
            what exists must stay.
    """

    arguments: tuple[str, ...]
    stdin: bytes = b""
    writes: tuple[str, ...] = ()
    numbers: bool = False
    own_process: bool = False
    named: str = ""

    @property
    def is_for_programs(self) -> bool:
        """Whether the output is csv or JSON, which contains exact values unless on a terminal."""
        return bool({"csv", "json", "jsonl"} & set(self.arguments))


Check = Callable[[Command, str], str]
"""Returns what is wrong with the standard output of a command that succeeded, or nothing."""


@dataclass(frozen=True)
class Case:
    """A hostile input in a box.

    Attributes:
        label: what was changed.
        commands: every command that reads the changed files.
        same_as: the states whose numbers a command may show if it succeeds; None: any, because the
            change is one that a user may make, or whose numbers `check` checks. States other than
            `ORIGINAL` are created by `states`.
        states: functions that bring a box in its original state to a valid state.
        check: checks the output of a command that succeeded.
    """

    label: str
    commands: Sequence[Command]
    same_as: tuple[str, ...] | None = None
    states: dict[str, Callable[[Box], None]] = field(default_factory=dict)
    check: Check | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of hostile inputs.

    Attributes:
        name: how it is selected.
        share: its number of inputs, relative to other kinds.
        build: changes a box, and returns the case.
    """

    name: str
    share: float
    build: Callable[[Box, Random], Case]
