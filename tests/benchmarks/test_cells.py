"""The layers that the benchmark of the cells compares can run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "cells", raising=False)
    import cells

    return cells


def assert_finite(runs: dict[str, Callable[[], Any]]) -> None:
    for name, run in runs.items():
        assert all(bool(gradient.isfinite().all()) for gradient in run()), name


@pytest.mark.parametrize("cell", ["rnn", "gru_reset_before"])
def test_one_layer_of_each_side_has_gradients(cells: Any, cell: str) -> None:
    assert_finite(cells.one_layer(cell, 4, 6, 3, CPU))


def test_two_layers_of_each_side_have_gradients(cells: Any) -> None:
    assert_finite(cells.two_layers(4, 6, 3, CPU))
