"""How exactly a GPU multiplies. On the CPU everything is computed as it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from models.config import Precision


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Let a GPU's float32 products use TF32 (10 bits of mantissa) inside, or forbid it.

    The setting is the process's; what it was before comes back. ``float32`` forbids TF32, which
    cuDNN would use by default.

    Args:
        precision: ``tf32`` lets products use it, ``bfloat16`` too, for what stays in float32.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def mixed(precision: Precision, device: str) -> AbstractContextManager[object]:
    """For the forward pass: products in bfloat16 where the precision says so, weights in float32.

    bfloat16 has float32's range, so losses need no scaling, which float16 would.

    Args:
        precision: only ``bfloat16`` changes anything.
        device: a torch device type, such as cuda.
    """
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device, torch.bfloat16)
