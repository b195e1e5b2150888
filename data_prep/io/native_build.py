"""C++ sources that are compiled at their first use, once per machine, and loaded with ctypes.

A compiler is optional: without one, or with `CELLTUNE_NATIVE=0`, the caller uses its fallback. The
library is stored in the cache under a name derived from the source, the compiler and the
processor. A change of any of them compiles it again, and different machines can share the folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.io.files import default_cache_dir

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared")
COMPILE_SECONDS = 120.0
"""Time limit for the compiler, which usually takes one to three seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeCode:
    """A library in source form."""

    name: str
    """Start of the library's file name."""
    fallback: str
    """Clause for log messages: what happens without the library."""
    sources: Sequence[Path]
    """C++ files."""
    headers: Sequence[Path] = ()
    """Header files that the sources include; a change compiles the library again."""
    flags: tuple[str, ...] = ()
    """Compiler flags in addition to `FLAGS`."""
    extra_flags: Sequence[tuple[str, ...]] = (("-march=native",), ())
    """Sets of flags that are tried in order, because not every compiler supports every flag."""

    def load(self) -> ctypes.CDLL | None:
        """Return the library, compiling it first if needed; None if it is unavailable."""
        if os.environ.get("CELLTUNE_NATIVE", "1") == "0":
            return None
        compiler = _find_compiler()
        if compiler is None:
            _log.info("No C++ compiler was found: %s.", self.fallback)
            return None
        try:
            target = default_cache_dir() / "native" / f"{self.name}-{self._build_id(compiler)}.so"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                self._compile(compiler, target)
            return ctypes.CDLL(str(target))
        except OSError as error:
            _log.warning(
                "The native library '%s' is unavailable, so %s: %s", self.name, self.fallback, error
            )
            return None

    def _compile(self, compiler: str, target: Path) -> None:
        """Compile in a scratch folder and rename, so that no process loads an incomplete file."""
        errors = ""
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            library = Path(scratch) / target.name
            for extra in self.extra_flags:
                flags = (*FLAGS, *self.flags, *extra)
                command = [compiler, *flags, *map(str, self.sources), "-o", str(library)]
                try:
                    process = subprocess.run(  # noqa: S603 (the machine's own compiler)
                        command,
                        capture_output=True,
                        text=True,
                        timeout=COMPILE_SECONDS,
                        check=False,
                    )
                except subprocess.TimeoutExpired as error:
                    raise OSError(f"{compiler} took more than {COMPILE_SECONDS:g} s") from error
                if process.returncode == 0:
                    library.replace(target)
                    return
                errors = process.stderr.strip()[-500:]
        raise OSError(f"{compiler} cannot compile it: {errors}")

    def _build_id(self, compiler: str) -> str:
        """Return a hash of everything that determines the library."""
        binary = Path(compiler).resolve().stat()
        build = (compiler, binary.st_size, binary.st_mtime_ns, FLAGS, self.flags)
        inputs = (
            *(source.read_bytes() for source in (*self.sources, *self.headers)),
            repr((*build, tuple(self.extra_flags))).encode(),
            _processor(),
        )
        return hashlib.sha256(b"\0".join(inputs)).hexdigest()[:20]


def available_cpus() -> int:
    """Return the number of threads for code that does not use PyTorch's.

    It is $OMP_NUM_THREADS if that is a number, otherwise the number of CPUs of this process.
    """
    configured = os.environ.get("OMP_NUM_THREADS", "")
    if configured.isdecimal() and int(configured) > 0:
        return int(configured)
    # Only Linux limits a process to some CPUs.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _find_compiler() -> str | None:
    configured = os.environ.get("CXX")
    paths = (shutil.which(name) for name in ((configured,) if configured else COMPILERS))
    return next((path for path in paths if path), None)


def _processor() -> bytes:
    """Return what determines the instruction set: the kernel's list, or the machine's name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return repr((platform.machine(), platform.processor())).encode()
    names = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(names)}))
