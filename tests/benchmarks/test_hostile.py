"""The run of hostile inputs notices every fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOSTILE = Path(__file__).parents[2] / "benchmarks" / "hostile.py"


def test_every_fault_of_a_command_is_noticed() -> None:
    command = [sys.executable, HOSTILE, "--self-test", "--inputs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
