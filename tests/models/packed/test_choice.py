"""Which trials are computed as one model."""

from __future__ import annotations

import pytest

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import CELLS
from celltune.models.packed.choice import runs_batched
from celltune.models.packed.network import PackedNetwork
from tests.models.packed.runs import SETTINGS, data, make_trainer
from tests.models.packed.test_trainer import OnlyStep


@pytest.mark.parametrize("cell", CELLS.names())
def test_trials_are_batched_on_a_gpu_and_not_on_a_cpu(cell: str) -> None:
    model = ModelConfig(cell=cell, hidden_size=16)
    for device, batched in (("cuda", True), ("cuda:1", True), ("cpu", False), ("cpu:0", False)):
        assert runs_batched(model, TrainingConfig(), device) == batched
        assert not runs_batched(model, TrainingConfig(adversarial=1.0), device)
        assert not runs_batched(ModelConfig(wide="only"), TrainingConfig(), device)


def test_cell_without_a_loop_is_not_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CELLS, "load", lambda name: OnlyStep)
    assert not runs_batched(ModelConfig(cell="gru"), TrainingConfig(), "cuda")
    model = make_trainer(data(), SETTINGS[0]).model
    with pytest.raises(ValueError, match="'gru' has no StepLoop"):
        PackedNetwork([model])
