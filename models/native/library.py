"""The native passes: ``native_*.cpp``, compiled once a machine if it has a compiler.

Nothing needs a compiler: without one (or with ``CELLTUNE_NATIVE=0``) the loops of
``models.kernels`` run, with the same results to rounding.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

from celltune.data_prep.io.native_build import NativeCode

_HERE = Path(__file__).parent
SOURCES = tuple(_HERE / f"{name}.cpp" for name in ("loops", "rows", "sums"))
HEADER = _HERE / "vectors.h"
LOOPS = NativeCode(
    "loops",
    "the recurrent layers run on PyTorch's operations",
    SOURCES,
    (HEADER,),
    flags=("-fno-math-errno",),
    extra_flags=(("-march=native", "-fopenmp"), ("-march=native",), ()),
)
COLUMNS = 16
"""Batches must be a multiple of this: the widest vector, in float32."""

_allowed: ContextVar[bool] = ContextVar("celltune_native_allowed", default=True)


def available() -> bool:
    """Whether the native loops can be used here; the first call may compile them."""
    return _allowed.get() and _library() is not None


def usable(values: Tensor) -> bool:
    """Whether the native loops can take this tensor: on the CPU, float32 or float64."""
    kinds = (torch.float32, torch.float64)
    return values.device.type == "cpu" and values.dtype in kinds and available()


@contextmanager
def disabled() -> Iterator[None]:
    """Use PyTorch's operations only inside; for comparisons."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def function(name: str, dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    """Find a function of the library by name and type.

    Args:
        name: ``forward``, for instance.
        dtype: float32 or float64.

    Raises:
        RuntimeError: there is no library; ``available`` says so beforehand.
    """
    library = _library()
    if library is None:
        raise RuntimeError(
            f"The native function {name!r} was asked for without a library; "
            "ask models.native.available() first."
        )
    found: ctypes._NamedFuncPointer = library[
        f"celltune_{name}_{'f32' if dtype == torch.float32 else 'f64'}"
    ]
    return found


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    return LOOPS.load()
