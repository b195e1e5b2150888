"""Run a command of celltune in this process, or as a process of its own."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from celltune.search.cli import app as cli

EXECUTABLE = Path(sys.executable).parent / "celltune"
LIMIT_SECONDS = 20.0
"""Time that one command may take, without the time in which other processes had the CPUs."""

_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters except line break and tab, and those that reorder text."""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    """Exit code; -1 if it ended with an exception."""
    stdout: bytes
    stderr: bytes
    error: str = ""
    """The traceback of an exception that left the command."""
    hung: bool = False

    @property
    def text(self) -> str:
        """The standard output."""
        return self.stdout.decode(errors="replace")

    @property
    def problem(self) -> str:
        """Why this is no controlled end: an exception, a printed traceback, or the exit code."""
        shown = (self.stdout + self.stderr).decode(errors="replace")
        if self.error:
            return self.error
        if "Traceback (most recent call last)" in shown:
            return shown[-1500:]
        return "" if self.code in (0, 1, 2) else f"exit code {self.code}: {shown[-500:]}"

    def raw_characters(self, *, stdout: bool = True) -> list[str]:
        """Return the raw control characters in the errors and in the output, in context."""
        shown = (
            (self.stdout * stdout + b"\n" + self.stderr)
            .decode(errors="replace")
            .replace("\r\n", "\n")
        )
        return [
            repr(shown[max(0, match.start() - 30) : match.end() + 30])
            for match in _RAW.finditer(shown)
        ]


class _Terminal(io.TextIOWrapper):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_here(arguments: Sequence[str], stdin: bytes = b"", on_terminal: bool = False) -> Outcome:
    """Run a command in this process, with the streams that a shell would give it.

    Args:
        arguments: what is typed after `celltune`.
        stdin: standard input.
        on_terminal: whether standard output is a terminal (without colours) instead of a pipe.
    """
    streams = sys.stdin, sys.stdout, sys.stderr, sys.argv
    out, err = io.BytesIO(), io.BytesIO()
    # A stream closes its buffer when nothing refers to it any more.
    replaced = (
        io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"),
        (_Terminal if on_terminal else io.TextIOWrapper)(out, encoding="utf-8", write_through=True),
        io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True),
    )
    sys.stdin, sys.stdout, sys.stderr = replaced
    sys.argv = ["celltune", *arguments]
    code, error = 0, ""
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 (what a user would see as a traceback)
        code, error = -1, traceback.format_exc(limit=-8)
    finally:
        sys.stdin, sys.stdout, sys.stderr, sys.argv = streams
    return Outcome(code, out.getvalue(), err.getvalue(), error)


def run_process(
    arguments: Sequence[str], stdin: bytes | None, environment: Mapping[str, str], cwd: Path
) -> Outcome:
    """Run a command as a process of its own, with the entry point that is installed."""
    started = time.monotonic()
    with subprocess.Popen(
        [EXECUTABLE, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **environment},
    ) as process:
        # A call of `communicate` after a time-out would not send what is left of the input.
        threading.Thread(target=_feed, args=(process.stdin, stdin or b""), daemon=True).start()
        process.stdin = None
        while True:
            try:
                stdout, stderr = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                if time.monotonic() - started - seconds_in_queue(process.pid) > LIMIT_SECONDS:
                    process.kill()
                    return Outcome(-1, b"", b"", hung=True)
            else:
                return Outcome(process.returncode, stdout, stderr)


def _feed(pipe: IO[bytes], content: bytes) -> None:
    # The process may end before it has read everything.
    with suppress(BrokenPipeError), pipe:
        pipe.write(content)


def seconds_in_queue(pid: int) -> float:
    """Return how long a process was ready to run, but other processes had the CPUs.

    Source: the second number of `/proc/PID/schedstat`, in nanoseconds (Linux,
    Documentation/scheduler/sched-stats.rst); 0 where there is no such file.
    """
    try:
        numbers = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0
    return int(numbers[1]) / 1e9
