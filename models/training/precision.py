"""The precision of products on a GPU. The CPU computes in the type of the stored values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from celltune.models.config import Precision
from celltune.models.layers.tf32 import float32_products, products_in, set_float32_products

_HALF_TYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def effective_precision(device: str, requested: Precision) -> Precision:
    """Return the precision that a device computes in: the requested one on CUDA, else float32.

    Args:
        device: a PyTorch device type, such as "cuda".
        requested: the precision of the config.
    """
    return requested if device == "cuda" else "float32"


@contextmanager
def tf32_products(precision: Precision) -> Iterator[None]:
    """Allow or forbid TF32 (10 bits of mantissa) for float32 products inside the context.

    The setting applies to the whole process and is restored afterwards. `float32` forbids TF32,
    which cuDNN uses by default.

    Args:
        precision: `tf32` allows it, and so do `bfloat16` and `float16` for the remaining float32
            products.
    """
    before = float32_products()
    set_float32_products(products_in(tf32=precision != "float32"))
    try:
        yield
    finally:
        set_float32_products(before)


def mixed_precision(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Compute the products of a forward pass in 16 bits, with weights in float32.

    bfloat16 has the range of float32. float16 has a smaller one, so the loss has to be scaled, or
    small gradients become zero (Micikevicius et al. 2018); `Updater` does this.

    Args:
        precision: only `bfloat16` and `float16` have an effect.
        device: a PyTorch device type, such as "cuda".
    """
    if precision not in _HALF_TYPES:
        return nullcontext()
    return torch.autocast(device, _HALF_TYPES[precision])
