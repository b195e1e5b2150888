"""Signals and standard streams of real processes of the command `celltune`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "celltune"]
HERE = Path(__file__).parents[2]

# Runs a command whose function is replaced: it says that it began, and waits for Ctrl-C.
INTERRUPTED = """
import os, signal, sys
sys.argv = ["celltune", "list"]
from celltune import __main__
{prepare}
__main__.main()
"""
DURING_IMPORTS = """
class Finder:
    def find_spec(self, name, *rest):
        if name == "celltune.search.cli.app":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
IN_THE_COMMAND = """
from celltune.search.cli import app
def interrupted(storage):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        os.write(1, b"cleaned up")
        {then}
app.open_storage = interrupted
"""
TWICE = "signal.raise_signal(signal.SIGINT); os.write(1, b'not reached')"
INTO_AN_ERROR = "raise ImportError('initialization failed')"
INTO_A_FINALIZER = """
from celltune.search.cli import app
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def interrupted(storage):
    Finalized()
    os.write(1, b"not reached")
app.open_storage = interrupted
"""


@pytest.mark.parametrize(
    ("prepare", "output"),
    [
        (DURING_IMPORTS, ""),
        (IN_THE_COMMAND.format(then="pass"), "cleaned up"),
        (IN_THE_COMMAND.format(then=TWICE), "cleaned up"),
        (IN_THE_COMMAND.format(then=INTO_AN_ERROR), "cleaned up"),
        (INTO_A_FINALIZER, ""),
    ],
    ids=["imports", "command", "twice", "error", "finalizer"],
)
def test_ctrl_c_ends_a_command_without_a_traceback(prepare: str, output: str) -> None:
    code = INTERRUPTED.format(prepare=prepare)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, output, "")


def test_threads_and_exit_functions_end_with_a_command() -> None:
    prepare = (
        "import atexit, threading\n"
        "from celltune.search.cli import app\n"
        "go_on = threading.Event()\n"
        "def late():\n"
        "    go_on.wait(); print('thread')\n"
        "def opened(storage):\n"
        "    threading.Thread(target=late).start(); atexit.register(print, 'exit function')\n"
        "    threading.Timer(0.05, go_on.set).start(); sys.exit(7)\n"
        "app.open_storage = opened\n"
    )
    code = INTERRUPTED.format(prepare=prepare)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "thread\nexit function\n", "")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    code = INTERRUPTED.format(prepare=IN_THE_COMMAND.format(then="sys.exit(7)"))
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(2, signal.SIG_IGN)\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "cleaned up")


def shell(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CELLTUNE_STORAGE": str(tmp_path), "COMMAND": " ".join(COMMAND)}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=HERE,
    )


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("$COMMAND list >&- 2>&- <&-", 0, ""),
        ("$COMMAND list > /dev/full", 1, "celltune: The output .*No space left on device.\n"),
        ("$COMMAND list > /dev/full 2>&1", 1, ""),
        ("$COMMAND --help | true", None, ""),
        ("PYTHONIOENCODING=ascii LC_ALL=C $COMMAND status é", 2, "celltune: .*no experiments.*\n"),
    ],
)
def test_unusable_streams_cause_no_traceback(
    line: str, code: int | None, error: str, tmp_path: Path
) -> None:
    done = shell(line, tmp_path)
    # Whether the reader ends before the command has written is a matter of time.
    assert done.returncode in ((0, 1) if code is None else (code,))
    assert re.fullmatch(error, done.stderr), done.stderr


def test_files_do_not_take_the_place_of_closed_streams() -> None:
    code = (
        "import os, sys; from celltune.process import open_streams; open_streams()\n"
        "file = os.open('/dev/null', os.O_RDONLY); print('to nobody')\n"
        "sys.exit(file if os.get_inheritable(1) else 0)"
    )
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$CODE" <&- >&- 2>&-'],
        check=False,
        env={**os.environ, "CODE": code},
    )
    assert done.returncode > 2


def test_sigterm_ends_a_command_at_once() -> None:
    code = INTERRUPTED.format(prepare=IN_THE_COMMAND.format(then="pass"))
    code = code.replace("signal.SIGINT", "signal.SIGTERM")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, b"", b"")
