"""No step of a packed epoch waits for the device; checked on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from celltune.models.extensions import CELLS, READOUTS
from celltune.models.packed import epochs
from celltune.models.packed.epochs import PackedEpochs
from celltune.models.packed.network import PackedNetwork
from celltune.models.training.device_split import DeviceSplit
from celltune.models.training.trainer import Trainer
from tests.models.packed.runs import SETTINGS, configs
from tests.models.packed.test_fused_update import fused_update
from tests.models.random_data import make_data, make_split
from tests.models.training.test_host_syncs import BlockingCopies, _meta

__all__ = ["_meta"]


def make_epochs(**shape: Any) -> PackedEpochs:
    split = make_split(40, 1)
    shape = {"num_layers": 2, "bidirectional": True, **shape}
    trainers = [
        Trainer(*configs(setting, shape), make_data(split, split), seed=1, device="meta")
        for setting in SETTINGS
    ]
    on_device = DeviceSplit(split, torch.device("meta"))
    return PackedEpochs(trainers, on_device, on_device)


def run_steps(packed: PackedEpochs, monkeypatch: pytest.MonkeyPatch) -> BlockingCopies:
    """Train and evaluate; reading the losses at the end of an epoch is what fails."""
    batches: list[bool] = []
    forward = PackedNetwork.forward

    def counted(self: PackedNetwork, batch: Any, *, training: bool) -> torch.Tensor:
        batches.append(training)
        return forward(self, batch, training=training)

    monkeypatch.setattr(PackedNetwork, "forward", counted)
    with BlockingCopies() as copies:
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            packed.train()
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            packed.evaluate([None] * 3)
    assert batches == [True] * 5 + [False] * 5
    return copies


@pytest.mark.usefixtures("_meta")
@pytest.mark.parametrize(
    ("cell", "readout"),
    [*((cell, "max") for cell in CELLS.names()), *(("gru", name) for name in READOUTS.names())],
)
def test_epoch_reads_no_value_before_its_end(
    cell: str, readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = run_steps(make_epochs(cell=cell, readout=readout), monkeypatch)
    assert copies.blocking == []
    assert copies.copies == 2  # the positions of the documents, once per epoch


@pytest.mark.usefixtures("_meta")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fused_update_reads_no_value(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "make_update", fused_update.FusedUpdate)
    launches: list[int] = []
    monkeypatch.setattr(
        fused_update, "launch", lambda stacked, *_, **__: launches.append(len(stacked))
    )
    packed = make_epochs(optimizer=optimizer)
    assert run_steps(packed, monkeypatch).blocking == []
    assert len(launches) == 5 * len(list(packed._network.stacks.trainable()))
