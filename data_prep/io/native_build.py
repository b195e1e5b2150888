"""C++ sources compiled at their first use, once a machine, and opened with ctypes.

Nothing needs a compiler: without one, or with ``CELLTUNE_NATIVE=0``, whoever asks for a library
does without. It is kept in the cache folder under a name made of the source, the compiler and the
processor, so that whatever changes is compiled anew, and machines that share a folder don't share
a library that they can't run.
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
"""A compiler that takes longer is given up; it takes one to three seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeCode:
    """A library in source form.

    Attributes:
        name: begins the name of its file.
        fallback: what happens without it, as a message says it.
        sources: the C++ files.
        headers: what they include of ours.
        flags: for the compiler, beside those of all.
        extra_flags: tried in this order: not every compiler knows every flag.
    """

    name: str
    fallback: str
    sources: Sequence[Path]
    headers: Sequence[Path] = ()
    flags: tuple[str, ...] = ()
    extra_flags: Sequence[tuple[str, ...]] = (("-march=native",), ())

    def load(self) -> ctypes.CDLL | None:
        """The library, compiled first where it is missing; None where it can't be had."""
        if os.environ.get("CELLTUNE_NATIVE", "1") == "0":
            return None
        compiler = _compiler()
        if compiler is None:
            _log.info("No C++ compiler is here: %s.", self.fallback)
            return None
        try:
            target = default_cache_dir() / "native" / f"{self.name}-{self._print(compiler)}.so"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                self._compile(compiler, target)
            return ctypes.CDLL(str(target))
        except OSError as error:
            _log.warning("The native %s can't be used, so %s: %s", self.name, self.fallback, error)
            return None

    def _compile(self, compiler: str, target: Path) -> None:
        """Compile aside and rename, so that two processes at once don't see half a library."""
        problem = ""
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            built = Path(scratch) / target.name
            for extra in self.extra_flags:
                flags = (*FLAGS, *self.flags, *extra)
                command = [compiler, *flags, *map(str, self.sources), "-o", str(built)]
                try:
                    done = subprocess.run(  # noqa: S603 (the machine's own compiler)
                        command,
                        capture_output=True,
                        text=True,
                        timeout=COMPILE_SECONDS,
                        check=False,
                    )
                except subprocess.TimeoutExpired as error:
                    raise OSError(f"{compiler} took more than {COMPILE_SECONDS:g} s") from error
                if done.returncode == 0:
                    built.replace(target)
                    return
                problem = done.stderr.strip()[-500:]
        raise OSError(f"{compiler} can't compile the native {self.name}: {problem}")

    def _print(self, compiler: str) -> str:
        binary = Path(compiler).resolve().stat()
        made_by = (compiler, binary.st_size, binary.st_mtime_ns, FLAGS, self.flags)
        parts = (
            *(source.read_bytes() for source in (*self.sources, *self.headers)),
            repr((*made_by, tuple(self.extra_flags))).encode(),
            _processor(),
        )
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _compiler() -> str | None:
    wanted = os.environ.get("CXX")
    found = (shutil.which(name) for name in ((wanted,) if wanted else COMPILERS))
    return next((path for path in found if path), None)


def _processor() -> bytes:
    """What decides which instructions there are: the kernel's list, or the machine's name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return repr((platform.machine(), platform.processor())).encode()
    names = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(names)}))
