"""Which trials are computed as one batched model."""

from __future__ import annotations

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.layers.stack import create_cell


def runs_batched(model: ModelConfig, training: TrainingConfig, device: str) -> bool:
    """Return whether packed trials are computed as one model; otherwise they run one by one.

    On a GPU, a small network leaves most of the processor idle. A single trial already keeps a CPU
    busy, and the larger tensors of a batched model do not stay in its caches: it was never faster
    there than on native loops (`benchmarks/packed.py`, docs/models.md). Cells that only define
    `step` run in autograd anyway, and models without a network have nothing to compute.
    Adversarial training is only implemented for single trials.

    Args:
        model: the shape of the trials.
        training: the settings of the training that belong to the shape.
        device: a PyTorch device name.
    """
    if device.partition(":")[0] == "cpu" or model.wide == "only" or training.adversarial:
        return False
    return create_cell(model).loop is not None
