"""How exactly a GPU multiplies. On the CPU everything is computed as it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from celltune.models.config import Precision

_HALVES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def used_on(device: str, wanted: Precision) -> Precision:
    """The precision that a device computes in.

    Args:
        device: a torch device type, such as cuda.
        wanted: what the config says.
    """
    return wanted if device == "cuda" else "float32"


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Let a GPU's float32 products use TF32 (10 bits of mantissa) inside, or forbid it.

    The setting is the process's; what it was before comes back. ``float32`` forbids TF32, which
    cuDNN would use by default.

    Args:
        precision: ``tf32`` lets products use it, and so do ``bfloat16`` and ``float16``, for what
            stays in float32.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def mixed(precision: Precision, device: str) -> AbstractContextManager[object]:
    """For the forward pass: products in 16 bits where the precision says so, weights in float32.

    bfloat16 has float32's range. float16 hasn't, so its losses have to be scaled, lest small
    gradients become zero (Micikevicius et al. 2018); ``models.optimizers.Updater`` does that.

    Args:
        precision: only ``bfloat16`` and ``float16`` change anything.
        device: a torch device type, such as cuda.
    """
    if precision not in _HALVES:
        return nullcontext()
    return torch.autocast(device, _HALVES[precision])
