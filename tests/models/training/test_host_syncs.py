"""No step of an epoch waits for the device; checked on the meta device, which has no values."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import CELLS
from celltune.models.layers.cudnn_layers import run_cudnn_layers
from celltune.models.training import updater
from celltune.models.training.trainer import Trainer
from tests.models.layers.test_cudnn_layers import CUDNN_CELLS, make_mask, make_stack
from tests.models.random_data import make_data, make_split

COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class BlockingCopies(TorchDispatchMode):
    """Records copies to the device that the CPU waits for. Reading a value raises an error."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking: list[str] = []
        self.copies = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in COPIES:
            source = args[1] if func is torch.ops.aten.copy_.default else args[0]
            non_blocking = (kwargs or {}).get("non_blocking") or True in args[2:]
            if source.device != result.device:
                self.copies += 1
                if not non_blocking:
                    self.blocking.append(str(func))
        return result


@pytest.fixture
def _meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what the meta device lacks: generators, autocast, fused optimizers."""

    class CpuGenerator(torch.Generator):
        def __new__(cls, device: object = None) -> CpuGenerator:
            return super().__new__(cls)

    def make_sgd(model: torch.nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=training.learning_rate)

    monkeypatch.setattr(torch, "Generator", CpuGenerator)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(updater, "make_optimizer", make_sgd)


def make_trainer(cell: str, readout: str, *, keep_on_device: bool) -> Trainer:
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
        make_data(split, split),
        seed=1,
        device="meta",
        keep_on_device=keep_on_device,
    )


@pytest.mark.usefixtures("_meta")
@pytest.mark.parametrize(
    ("cell", "readout", "keep_on_device"),
    [
        *((cell, "max", True) for cell in CELLS.names()),
        ("gru", "final", False),
        ("gru", "mean", True),
    ],
)
def test_epoch_reads_no_value_before_its_end(
    cell: str, readout: str, keep_on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(cell, readout, keep_on_device=keep_on_device)
    monkeypatch.setattr(trainer, "_check_finite", lambda losses, phase: None)
    monkeypatch.setattr(
        "celltune.models.training.trainer.means",
        lambda losses, correct, documents: (len(losses), 0),
    )
    with BlockingCopies() as copies:
        assert trainer.train_epoch() == (3, 0)
        assert trainer.evaluate(make_split(40, 1))[0] == 3
    assert copies.blocking == []
    assert copies.copies >= 6


@pytest.mark.usefixtures("_meta")
def test_techniques_read_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_split(40, 1, wide=True)
    model = ModelConfig(
        cell="gru",
        wide="add",
        hidden_size=4,
        embedding_size=4,
        word_dropout=0.1,
        readout="attention",
    )
    training = TrainingConfig(
        batch_size=16,
        weight_average=0.9,
        label_smoothing=0.1,
        class_weights="balanced",
        warmup_epochs=0.5,
        decay_epochs=2,
    )
    trainer = Trainer(model, training, make_data(split, split), seed=1, device="meta")
    monkeypatch.setattr(trainer, "_check_finite", lambda losses, phase: None)
    monkeypatch.setattr(
        "celltune.models.training.trainer.means",
        lambda losses, correct, documents: (len(losses), 0),
    )
    with BlockingCopies() as copies:
        assert trainer.train_epoch() == (3, 0)
    assert copies.blocking == []


@pytest.mark.usefixtures("_meta")
def test_end_of_an_epoch_reads_the_loss() -> None:
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        make_trainer("gru", "max", keep_on_device=True).train_epoch()


@pytest.mark.parametrize("name", CUDNN_CELLS)
def test_cudnn_layers_do_not_wait_for_the_device(name: str) -> None:
    stack = make_stack(CUDNN_CELLS[name], 2, True).to("meta")
    inputs = torch.zeros(6, 4, 4, dtype=torch.float64, device="meta")
    function, weights = stack.cell.torch_function, stack.layer_weights()
    mask = make_mask().to("meta")

    def same(values: Tensor) -> Tensor:
        return values

    with BlockingCopies() as copies:
        states = run_cudnn_layers(function, inputs, mask, weights, same)
        states[-1].sum().backward()
    assert (copies.blocking, copies.copies) == ([], 0)
