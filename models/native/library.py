"""The native loops: `*.cpp`, compiled once per machine if it has a C++ compiler.

A compiler is optional. Without one, or with `CELLTUNE_NATIVE=0`, layers run on PyTorch operations
and give the same results up to rounding.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

from celltune.data_prep.io.native_build import NativeCode

_FOLDER = Path(__file__).parent
SOURCES = tuple(_FOLDER / f"{name}.cpp" for name in ("loops", "rows", "sums"))
HEADER = _FOLDER / "vectors.h"
LOOPS = NativeCode(
    "loops",
    "the recurrent layers run on PyTorch's operations",
    SOURCES,
    (HEADER,),
    flags=("-fno-math-errno",),
    extra_flags=(("-march=native", "-fopenmp"), ("-march=native",), ()),
)
BATCH_MULTIPLE = 16
"""The batch size of a native loop must be a multiple of this: the widest vector in float32."""

_enabled: ContextVar[bool] = ContextVar("celltune_native_enabled", default=True)


def available() -> bool:
    """Return whether the native loops can be used; the first call may compile them."""
    return _enabled.get() and _library() is not None


def supports(values: Tensor) -> bool:
    """Return whether the native loops can process a tensor: float32 or float64 on the CPU."""
    dtypes = (torch.float32, torch.float64)
    return values.device.type == "cpu" and values.dtype in dtypes and available()


@contextmanager
def disabled() -> Iterator[None]:
    """Use only PyTorch operations inside the context, for comparisons."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


def function(name: str, dtype: torch.dtype) -> Callable[..., int]:
    """Return a function of the library, which returns 0, or another number if memory is exhausted.

    Args:
        name: the name without prefix and type, such as "forward".
        dtype: float32 or float64.

    Raises:
        RuntimeError: the library is not available.
    """
    library = _library()
    if library is None:
        raise RuntimeError(
            f"The native function '{name}' is not available: there is no native library. Check "
            "models.native.library.available() first."
        )
    symbol = f"celltune_{name}_{'f32' if dtype == torch.float32 else 'f64'}"
    native_function: Callable[..., int] = library[symbol]
    return native_function


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    return LOOPS.load()
