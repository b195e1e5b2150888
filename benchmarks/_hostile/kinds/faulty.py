"""Commands that do what no command may do: a check that each of it is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import typer

from _hostile.box import Box
from _hostile.cases import ORIGINAL, SECRET, Case, Command, Kind
from celltune.search.cli import app as cli


def _raise() -> None:
    raise KeyError("valid_accuracy")


def _print_traceback() -> None:
    print("Traceback (most recent call last):", file=sys.stderr)


def _other_exit_code() -> None:
    sys.exit(7)


def _die() -> None:
    os.abort()


def _hang() -> None:
    time.sleep(1_000)


def _write() -> None:
    Path("../outside/created").write_text("new")


def _write_with_a_descriptor() -> None:
    folder = os.open("../outside", os.O_RDONLY)
    os.close(os.open("victim.txt", os.O_WRONLY, dir_fd=folder))
    os.close(folder)


def _write_through_a_link() -> None:
    Path("../out/link").symlink_to(Path("../outside/victim.txt").absolute())
    Path("../out/link").write_text("changed")


def _rename() -> None:
    Path("../outside/victim").rename("../out/victim")


def _remove() -> None:
    Path("../storage/other/ledger.jsonl").unlink()


def _write_without_python() -> None:
    subprocess.run(["touch", "../storage/small/new"], check=True)


def _execute() -> None:
    os.system("true")  # noqa: S605 (a fault)


def _run_input() -> None:
    Path("../outside/executed").touch()


def _show_escapes() -> None:
    print("\x1b[31mred")


def _show_secret() -> None:
    print(f"http://user:{SECRET}@host")


def _show_much() -> None:
    print("x" * 100_000, file=sys.stderr)


def _show_other_numbers() -> None:
    print(time.perf_counter_ns())


FAULTS: tuple[tuple[Callable[[], None], str], ...] = (
    (_raise, "tracebacks"),
    (_print_traceback, "tracebacks"),
    (_other_exit_code, "tracebacks"),
    (_die, "tracebacks"),
    (_hang, "hangs"),
    (_write, "writes_outside"),
    (_write_with_a_descriptor, "writes_outside"),
    (_write_through_a_link, "writes_outside"),
    (_rename, "writes_outside"),
    (_remove, "writes_outside"),
    (_write_without_python, "writes_outside"),
    (_execute, "executions"),
    (_run_input, "executions"),
    (_show_escapes, "raw_escapes"),
    (_show_secret, "secrets"),
    (_show_much, "long_messages"),
    (_show_other_numbers, "wrong_numbers"),
)
"""Functions, and the figure that counts what they do."""


def kinds() -> tuple[Kind, ...]:
    """Return a kind for each fault, under its name."""
    return tuple(Kind(fault.__name__, 1, _builder(fault)) for fault, _ in FAULTS)


def _builder(fault: Callable[[], None]) -> Callable[[Box, Random], Case]:
    def build(box: Box, random: Random) -> Case:  # noqa: ARG001
        broken = typer.Typer(pretty_exceptions_enable=False)
        broken.command()(fault)
        vars(cli)["app"] = broken
        return Case(fault.__name__, [Command((), numbers=True)], (ORIGINAL,))

    return build
