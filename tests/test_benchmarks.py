"""The benchmarks are not run by the tests, but their imports have to resolve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_benchmarks_can_be_imported() -> None:
    modules = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert len(modules) > 10
    # A separate process, because the modules are imported by their bare names.
    code = f"import importlib; [importlib.import_module(name) for name in {modules}]"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
