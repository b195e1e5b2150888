"""Figures of the comparison with published models."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def row(difference: float | None, *, stands_in: bool = False, count: int = 1) -> dict[str, Any]:
    return {
        "seeds": list(range(count)),
        "scale": 1.0,
        "stands_in": stands_in,
        "difference_test_accuracy": difference,
        "measured_cpu_seconds": 10.0 if count else None,
    }


def test_only_results_on_the_source_data_count_as_reproduced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "seeds", raising=False)
    seeds = importlib.import_module("seeds")
    rows = [row(0.05), row(-0.02, count=3), row(-0.021), row(None), row(None, count=0)]
    rows += [row(0.0, stands_in=True)]
    figures, details = seeds.results(rows)
    assert figures == {
        "rows": 6,
        "rows_full_size": 5,
        "rows_compared": 3,
        "rows_at_or_above_reported_minus_2": 2,
        "trainings": 7,
        "cpu_seconds": 70.0,
    }
    assert details == {"rows": rows}
