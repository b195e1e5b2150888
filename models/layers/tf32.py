"""The setting of PyTorch that allows TF32 (10 bits of mantissa) for float32 products on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

_BY_NAME = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""True from PyTorch 2.9 on. There, `allow_tf32` is deprecated, and reading it raises an error after
anything has set `fp32_precision`."""


class Float32Products(NamedTuple):
    """The setting for cuBLAS and for the recurrent layers of cuDNN: names, or booleans."""

    matmul: str | bool
    recurrent: str | bool


def float32_products() -> Float32Products:
    """Return the current setting of this process."""
    matmul, cudnn = _backends()
    if _BY_NAME:
        return Float32Products(matmul.fp32_precision, cudnn.rnn.fp32_precision)
    return Float32Products(matmul.allow_tf32, cudnn.allow_tf32)


def set_float32_products(setting: Float32Products) -> None:
    """Apply a setting to this process."""
    matmul, cudnn = _backends()
    if _BY_NAME:
        matmul.fp32_precision, cudnn.rnn.fp32_precision = setting
    else:
        matmul.allow_tf32, cudnn.allow_tf32 = setting


def products_in(*, tf32: bool) -> Float32Products:
    """Return the setting that allows or forbids TF32."""
    if _BY_NAME:
        return Float32Products(*(["tf32" if tf32 else "ieee"] * 2))
    return Float32Products(tf32, tf32)


def _backends() -> tuple[Any, Any]:
    # PyTorch declares the types of some of the names that it defines.
    return torch.backends.cuda.matmul, torch.backends.cudnn
