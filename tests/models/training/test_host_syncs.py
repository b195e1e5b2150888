"""No step of an epoch waits for the device, told on one that holds no values to wait for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.layers.cells import CELLS
from celltune.models.layers.cudnn_layers import FUSED, fused_layers
from celltune.models.training import updater as optimizers
from celltune.models.training.trainer import Trainer
from tests.models.layers.test_cudnn_layers import LENGTHS, make_stack
from tests.models.model_splits import make_split

COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Waits(TorchDispatchMode):
    """Finds copies to the device that the CPU waits for. A look at a value raises by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.copies = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in COPIES:
            source = args[1] if func is torch.ops.aten.copy_.default else args[0]
            patient = (kwargs or {}).get("non_blocking") or True in args[2:]
            if source.device != result.device:
                self.copies += 1
                if not patient:
                    self.found.append(str(func))
        return result


@pytest.fixture
def _meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's device without values lacks: generators, autocast, fused optimizers."""

    class OnTheCpu(torch.Generator):
        def __new__(cls, device: object = None) -> OnTheCpu:
            return super().__new__(cls)

    def plain(model: torch.nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=training.learning_rate)

    monkeypatch.setattr(torch, "Generator", OnTheCpu)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(optimizers, "make_optimizer", plain)


def make_trainer(cell: str, readout: str, *, resident: bool) -> Trainer:
    split = make_split(40, 1)
    return Trainer(
        ModelConfig(
            cell=cell,
            hidden_size=4,
            embedding_size=4,
            num_layers=2,
            bidirectional=True,
            dropout=0.2,
            readout=readout,
        ),
        TrainingConfig(batch_size=16),
        train=split,
        valid=split,
        vocabulary_size=30,
        num_classes=2,
        seed=1,
        device="meta",
        resident=resident,
    )


@pytest.mark.usefixtures("_meta")
@pytest.mark.parametrize(
    ("cell", "readout", "resident"),
    [*((cell, "max", True) for cell in CELLS), ("gru", "final", False), ("gru", "mean", True)],
)
def test_an_epoch_looks_at_nothing_before_its_end(
    cell: str, readout: str, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(cell, readout, resident=resident)
    monkeypatch.setattr(trainer, "_check_finite", lambda sums, part: None)
    monkeypatch.setattr(trainer, "_means", lambda sums, rights, reviews: (len(sums), 0))
    with Waits() as waits:
        assert trainer.train_epoch() == (3, 0)
        assert trainer.evaluate(make_split(40, 1))[0] == 3
    assert waits.found == []
    assert waits.copies >= 6


@pytest.mark.usefixtures("_meta")
def test_the_end_of_an_epoch_does_look() -> None:
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        make_trainer("gru", "max", resident=True).train_epoch()


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers_wait_for_nothing(name: str) -> None:
    stack = make_stack(name, 2, True).to("meta")
    inputs = torch.zeros(6, 4, 4, dtype=torch.float64, device="meta")
    weights = [stack._layer(layer) for layer in range(2)]

    def same(values: Tensor) -> Tensor:
        return values

    with Waits() as waits:
        states = fused_layers(name, inputs, LENGTHS, weights, same)
        states[-1].sum().backward()
    assert (waits.found, waits.copies) == ([], 1)
