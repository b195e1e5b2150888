"""Which trials are computed as one model."""

from __future__ import annotations

import pytest

from celltune.models.config import ModelConfig
from celltune.models.extensions import CELLS
from celltune.models.native import library as native
from celltune.models.packed.choice import FASTER_UP_TO_HIDDEN, packing_is_faster, runs_batched
from celltune.models.packed.network import PackedNetwork
from tests.models.packed.runs import SETTINGS, data, make_trainer
from tests.models.packed.test_trainer import OnlyStep


@pytest.mark.parametrize("cell", CELLS.names())
def test_every_cell_is_batched_on_a_gpu(cell: str) -> None:
    model = ModelConfig(cell=cell, hidden_size=512)
    assert runs_batched(model, "cuda:0")
    assert packing_is_faster(model, "cuda:0")


def test_cpu_batches_small_models_without_native_loops() -> None:
    small = ModelConfig(cell="gru", hidden_size=FASTER_UP_TO_HIDDEN)
    large = ModelConfig(cell="gru", hidden_size=FASTER_UP_TO_HIDDEN + 1)
    with native.disabled():
        assert [packing_is_faster(model, "cpu") for model in (small, large)] == [True, False]
        assert runs_batched(large, "cpu")
    if native.available():
        assert not packing_is_faster(small, "cpu")
        assert not runs_batched(small, "cpu")


def test_cell_without_a_loop_is_not_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "load", lambda name: OnlyStep)
    assert not runs_batched(ModelConfig(cell="gru"), "cuda")
    assert not packing_is_faster(ModelConfig(cell="gru"), "cuda")
    model = make_trainer(data(), SETTINGS[0]).model
    with pytest.raises(ValueError, match="'gru' has no StepLoop"):
        PackedNetwork([model])
