"""C++ sources that are compiled at their first use, once per machine, and loaded with ctypes.

A compiler is optional: without one, or with `CELLTUNE_NATIVE=0`, the caller uses its fallback. The
library is stored in the cache under a name derived from the source, the compiler and the
processor. A change of any of them compiles it again, and different machines can share the folder.

A library is executed, so its folder belongs to one user (`private.py`), and it ends with a digest
of its name and content: a damaged library is compiled again. What is loaded are the verified bytes,
not the file.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.io.private import PrivateFolder, private_folder
from celltune.printable import quoted

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared")
COMPILE_SECONDS = 120.0
"""Time limit for the compiler, which usually takes one to three seconds."""

MAX_BYTES = 1 << 26
"""Size limit for a stored library, which has about 100 kB."""
DIGEST_BYTES = hashlib.sha256().digest_size

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
        try:
            compiler = _find_compiler()
            if compiler is None:
                _log.info("No C++ compiler was found: %s.", self.fallback)
                return None
            with private_folder(libraries_dir()) as folder:
                return self._load_from(folder, compiler)
        except OSError as error:
            _log.warning(
                "The native library '%s' is unavailable, so %s: %s", self.name, self.fallback, error
            )
            return None

    def will_compile(self) -> bool:
        """Return whether `load` is going to run the compiler, which takes seconds."""
        if os.environ.get("CELLTUNE_NATIVE", "1") == "0":
            return False
        try:
            compiler = _find_compiler()
            if compiler is None:
                return False
            with private_folder(libraries_dir()) as folder:
                return self._stored(folder, self._file_name(compiler)) is None
        except OSError:
            return False

    def _file_name(self, compiler: Sequence[str]) -> str:
        return f"{self.name}-{self._build_id(compiler)}.so"

    def _load_from(self, folder: PrivateFolder, compiler: Sequence[str]) -> ctypes.CDLL:
        """Load the library from the folder, or compile, load and store it.

        Raises:
            OSError: it cannot be compiled, loaded or stored.
        """
        name = self._file_name(compiler)
        if (stored := self._stored(folder, name)) is not None:
            return _loaded(self.name, stored)
        # The workers of a search start together. One of them compiles for all.
        with folder.locked(name):
            if (stored := self._stored(folder, name)) is not None:
                return _loaded(self.name, stored)
            compiled = self._compile(compiler)
            library = _loaded(self.name, compiled)
            folder.write(name, compiled + _digest(name, compiled))
            return library

    def _stored(self, folder: PrivateFolder, name: str) -> bytes | None:
        """Return the stored library; None if it is missing, damaged or not private."""
        try:
            return _verified(name, folder.read(name, MAX_BYTES))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.info("The native library '%s' is compiled again: %s", self.name, error)
            return None

    def _compile(self, compiler: Sequence[str]) -> bytes:
        """Return the compiled library.

        Raises:
            OSError: the compiler cannot compile it or takes too long.
        """
        errors = ""
        with tempfile.TemporaryDirectory(prefix="celltune-") as scratch:
            library = Path(scratch) / f"{self.name}.so"
            for extra in self.extra_flags:
                flags = (*FLAGS, *self.flags, *extra)
                command = [*compiler, *flags, *map(str, self.sources), "-o", str(library)]
                try:
                    process = subprocess.run(  # noqa: S603 (the machine's own compiler)
                        command,
                        capture_output=True,
                        text=True,
                        timeout=COMPILE_SECONDS,
                        check=False,
                    )
                except subprocess.TimeoutExpired as error:
                    raise OSError(f"{compiler[0]} took more than {COMPILE_SECONDS:g} s") from error
                if process.returncode == 0:
                    return library.read_bytes()
                errors = process.stderr.strip()[-500:]
        raise OSError(f"{shlex.join(compiler)} cannot compile it: {errors}")

    def _build_id(self, compiler: Sequence[str]) -> str:
        """Return a hash of everything that determines the library."""
        paths = (shutil.which(word) for word in compiler)
        binaries = [Path(path).resolve().stat() for path in paths if path]
        programs = [(binary.st_size, binary.st_mtime_ns) for binary in binaries]
        build = (tuple(compiler), programs, FLAGS, self.flags)
        inputs = (
            *(source.read_bytes() for source in (*self.sources, *self.headers)),
            repr((*build, tuple(self.extra_flags))).encode(),
            _processor(),
        )
        return hashlib.sha256(b"\0".join(inputs)).hexdigest()[:20]


def libraries_dir() -> Path:
    """Return the folder of the compiled libraries: each user of a shared cache has one."""
    return default_cache_dir() / f"native-{os.geteuid()}"


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


def _find_compiler() -> list[str] | None:
    """Return the command of the compiler, which may have arguments; None if there is no compiler.

    Raises:
        OSError: `$CXX` is not a command.
    """
    configured = os.environ.get("CXX", "")
    if not configured.strip():
        found = next(filter(None, map(shutil.which, COMPILERS)), None)
        return [found] if found else None
    try:
        # A path may contain spaces.
        words = [configured] if shutil.which(configured) else shlex.split(configured)
    except ValueError:  # an unbalanced quotation mark
        words = []
    path = shutil.which(words[0]) if words else None
    if path is None:
        raise OSError(
            f"The environment variable CXX is {quoted(configured)}, which is not a command on this "
            "machine. Set it to a C++ compiler, such as 'g++' or 'ccache g++', or unset it."
        )
    return [path, *words[1:]]


def _digest(name: str, library: bytes) -> bytes:
    """Return the digest of a library and its name, which says what it was compiled for."""
    return hashlib.sha256(name.encode() + b"\0" + library).digest()


def _verified(name: str, content: bytes) -> bytes:
    """Return a library without its digest.

    Raises:
        OSError: the content is not what was written.
    """
    library, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if digest != _digest(name, library):
        raise OSError(f"{name} is damaged.")
    return library


def _loaded(name: str, library: bytes) -> ctypes.CDLL:
    """Load a library from memory, so that nobody can change it after its verification."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return _loaded_from_memory(name, library)
    with tempfile.TemporaryDirectory(prefix="celltune-") as scratch:
        path = Path(scratch) / f"{name}.so"
        path.write_bytes(library)
        return ctypes.CDLL(str(path))


def _loaded_from_memory(name: str, library: bytes) -> ctypes.CDLL:
    # It stays open: the loader would take a second library with the same path for this one.
    descriptor = os.memfd_create(name)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(library)
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError:
        os.close(descriptor)
        raise


def _processor() -> bytes:
    """Return what determines the instruction set: the kernel's list, or the machine's name."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return repr((platform.machine(), platform.processor())).encode()
    names = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(names)}))
