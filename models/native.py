"""The native passes: ``native_*.cpp``, compiled once a machine if it has a compiler.

Nothing needs a compiler: without one (or with ``CELLTUNE_NATIVE=0``) the loops of
``models.kernels`` run, with the same results to rounding. The library is kept in the cache folder
under a name made of the source, the compiler and the processor, so that whatever changes is
compiled anew, and machines that share a folder don't share a library that they can't run.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

_HERE = Path(__file__).parent
SOURCES = tuple(_HERE / f"native_{name}.cpp" for name in ("loops", "rows", "sums"))
HEADER = _HERE / "native_vectors.h"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno")
EXTRA_FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ())
"""Tried in this order: not every compiler knows its processor, or has OpenMP."""
COMPILE_SECONDS = 120.0
"""A compiler that takes longer is given up; it takes one to three seconds."""
COLUMNS = 16
"""Batches must be a multiple of this: the widest vector, in float32."""

_log = logging.getLogger(__name__)
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
    if os.environ.get("CELLTUNE_NATIVE", "1") == "0":
        return None
    compiler = _compiler()
    if compiler is None:
        _log.info("No C++ compiler is here: the recurrent layers run on PyTorch's operations.")
        return None
    try:
        return _load(compiler, _folder())
    except OSError as error:
        _log.warning("The native passes can't be used, PyTorch's operations are: %s", error)
        return None


def _load(compiler: str, folder: Path) -> ctypes.CDLL:
    """Open the library, compiling it first where it is missing.

    Raises:
        OSError: it can't be compiled, written or opened.
    """
    target = folder / f"loops-{_fingerprint(compiler)}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(compiler, target)
    return ctypes.CDLL(str(target))


def _compile(compiler: str, target: Path) -> None:
    """Compile aside and rename, so that two processes at once don't see half a library."""
    problem = ""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        built = Path(scratch) / target.name
        for extra in EXTRA_FLAGS:
            command = [compiler, *FLAGS, *extra, *map(str, SOURCES), "-o", str(built)]
            try:
                done = subprocess.run(  # noqa: S603 (the machine's own compiler)
                    command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise OSError(f"{compiler} took more than {COMPILE_SECONDS:g} s") from error
            if done.returncode == 0:
                built.replace(target)
                return
            problem = done.stderr.strip()[-500:]
    raise OSError(f"{compiler} can't compile the native passes: {problem}")


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    found = (shutil.which(name) for name in ((wanted,) if wanted else COMPILERS))
    return next((path for path in found if path), None)


def _folder() -> Path:
    root = os.environ.get("CELLTUNE_CACHE", "~/.cache/celltune")
    return Path(root).expanduser() / "native"


def _fingerprint(compiler: str) -> str:
    binary = Path(compiler).resolve().stat()
    parts = (
        *(source.read_bytes() for source in (*SOURCES, HEADER)),
        repr((compiler, binary.st_size, binary.st_mtime_ns, FLAGS, EXTRA_FLAGS)).encode(),
        _processor(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _processor() -> bytes:
    """What decides which instructions there are: the kernel's list, or the machine's name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return repr((platform.machine(), platform.processor())).encode()
    names = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(names)}))
