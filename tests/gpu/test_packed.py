"""Packed trials on a GPU: each has the numbers of its single run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.extensions import CELLS
from celltune.models.packed.trainer import PackedTrainer
from celltune.models.packed.updates import fused_updates_run
from celltune.models.training.trainer import Trainer
from tests.models.packed.runs import (
    SETTINGS,
    TECHNIQUES,
    Setting,
    configs,
    data,
    difference,
    values,
)

pytestmark = pytest.mark.gpu

GPU = "cuda"
SHAPES: tuple[dict[str, Any], ...] = (
    *({"cell": cell, "readout": "max"} for cell in CELLS.names()),
    {"cell": "mgu", "readout": "mean", "optimizer": "sgd"},
    {"cell": "lstm", "readout": "last_two_layers", "batch_tokens": 150},
    {"cell": "gru", "readout": "final", "hidden_size": 130},
    {"cell": "rnn", "nonlinearity": "relu", "bidirectional": False},
)


def assert_equal_runs(
    shape: dict[str, Any],
    *,
    losses: float,
    states: float,
    settings: Sequence[Setting] = SETTINGS,
    prepared: PreparedData | None = None,
) -> None:
    """Train a pack and single runs, and compare them with relative bounds."""
    prepared, shape = prepared or data(), {"num_layers": 2, "bidirectional": True, **shape}
    pack = PackedTrainer(prepared, device=GPU)
    members = [pack.add(*configs(s, shape), seed=s.seed) for s in settings]
    singles = [Trainer(*configs(s, shape), prepared, seed=s.seed, device=GPU) for s in settings]
    for _ in range(2):
        results = pack.run_epoch()
        for member, single in zip(members, singles, strict=True):
            expected = values(single.run_epoch())
            assert values(results[member])[3:] == pytest.approx(expected[3:], rel=losses)
    for member, single in zip(members, singles, strict=True):
        assert difference(member.state()[0], single.state()[0]) < states


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numbers_equal_those_of_single_runs(shape: dict[str, Any]) -> None:
    assert_equal_runs(shape, losses=1e-4, states=1e-2)


@pytest.mark.parametrize("readout", ["max_mean", "attention"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_techniques_and_the_wide_part(optimizer: str, readout: str) -> None:
    shape = {"cell": "gru", "readout": readout, "optimizer": optimizer, "wide": "add"}
    prepared = data(3, wide=True)
    assert_equal_runs(shape, losses=1e-4, states=1e-2, settings=TECHNIQUES, prepared=prepared)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_other_precisions_have_similar_losses(precision: str) -> None:
    shape = {"cell": "gru", "readout": "mean", "precision": precision}
    assert_equal_runs(shape, losses=5e-2, states=float("inf"))


def test_trial_leaves_and_another_one_joins() -> None:
    prepared, shape = data(), {"cell": "gru", "readout": "max"}
    pack = PackedTrainer(prepared, device=GPU)
    first, second, third = (pack.add(*configs(s, shape), seed=s.seed) for s in SETTINGS)
    pack.run_epoch()
    pack.remove(second)
    joined = pack.add(*configs(SETTINGS[1], shape), seed=SETTINGS[1].seed)
    joined.load_state(*second.state())
    pack.run_epoch()
    assert [member.epoch for member in (first, second, third, joined)] == [2, 1, 2, 2]
    single = Trainer(*configs(SETTINGS[1], shape), prepared, seed=SETTINGS[1].seed, device=GPU)
    for _ in range(2):
        single.run_epoch()
    assert difference(joined.state()[0], single.state()[0]) < 1e-2


def test_the_optimizer_kernel_has_the_precision_of_float32() -> None:
    device = torch.device(GPU, 0)
    assert fused_updates_run(device)
    from celltune.models.packed import fused_update

    values, moments = torch.zeros(1, 3, device=device), torch.zeros(2, 1, 3, device=device).unbind()
    values.grad = torch.tensor([[1.0, 2.0, -3.0]], device=device)
    settings = torch.tensor([[1.0, 0.1, 0.0, 0.1, 0.9, 1.0, 1.0]], device=device)
    fused_update.launch(values, moments, settings, torch.ones(1, device=device), adam=True)
    expected = torch.tensor([[0.001, 0.004, 0.009]], device=device)
    torch.testing.assert_close(moments[1], expected, rtol=3e-7, atol=0)
