"""A short run of the hostile inputs, which first checks that every fault is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from celltune.data_prep.tables.detect import detect

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _hostile import fixtures, tables

HOSTILE = Path(__file__).parents[2] / "benchmarks" / "hostile.py"
INPUTS = 60
FORMATS = [name for name in tables.NAMES if not name.endswith((".pkl.gz", ".tar.gz"))]


@pytest.mark.parametrize("name", FORMATS)
def test_undamaged_tables_are_read_exactly(tmp_path: Path, name: str) -> None:
    tables.write_valid(tmp_path / name)
    found = detect(tmp_path / name)
    assert found.columns == ("text", "label")
    assert found.rows == [[text, label] for text, label in fixtures.reviews(tables.ROWS)]


def test_every_fault_is_noticed_and_none_is_found() -> None:
    command = [sys.executable, HOSTILE, "--self-test", "--inputs", str(INPUTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert figures.pop("inputs") == INPUTS
    assert figures.pop("commands") > 2 * INPUTS
    assert 0 < figures.pop("peak_mb") < 1500
    assert set(figures.values()) == {0}
