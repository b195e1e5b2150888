"""Ctrl-C, SIGTERM and SIGHUP at many moments of real commands, once and twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.integration.test_resume import CONFIG

pytestmark = pytest.mark.faults

COMMANDS = {
    "list": ["list"],
    "status": ["status", "none"],
    "validate": ["validate", "c.yaml"],
    "launch": ["launch", "c.yaml"],
}
MOMENTS = (0.2, 0.4, 0.7, 1.0, 1.5)
"""Seconds after the start. Earlier signals can reach Python before it runs any code of ours."""
LAUNCH_MOMENTS = (2.0, 3.0, 4.5, 6.0, 9.0)
"""Ray is imported, starts and is used in these seconds."""
KILLED = {
    signal.SIGINT: (130, -signal.SIGINT),
    # Ray ends a process by the number of the signal, or by abort() while it connects.
    signal.SIGTERM: (130, -signal.SIGTERM, signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGABRT),
    signal.SIGHUP: (-signal.SIGHUP,),
}


def signalled(
    arguments: list[str], folder: Path, number: signal.Signals, *moments: float
) -> tuple[int, str]:
    """Start a command, send it a signal at each moment, and return its exit code and output."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "celltune", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "CELLTUNE_STORAGE": str(folder), "CELLTUNE_CACHE": str(folder)},
        start_new_session=True,
    )
    for moment in moments:
        time.sleep(max(0.0, start + moment - time.monotonic()))
        process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "name": "demo"}))
    return tmp_path


@pytest.mark.parametrize("number", list(KILLED))
@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_never_shows_a_traceback(
    number: signal.Signals, command: str, times: int, folder: Path
) -> None:
    moments = (*MOMENTS, *LAUNCH_MOMENTS) if command == "launch" else MOMENTS
    for moment in moments:
        repeated = [moment + 0.1 * again for again in range(times)]
        code, output = signalled(COMMANDS[command], folder, number, *repeated)
        assert "Traceback" not in output, (moment, output)
        ended_before = (0, 2) if command != "launch" or (folder / "demo").exists() else ()
        assert code in (*KILLED[number], *ended_before), (moment, output)
