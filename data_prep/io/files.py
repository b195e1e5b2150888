"""Files that stay whole: digests, locks between processes, and errors that name the place."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from celltune.data_prep.errors import DataError

CHUNK_BYTES = 1 << 20


def default_cache_dir() -> Path:
    """``$CELLTUNE_CACHE`` where it is set, else ``~/.cache/celltune``."""
    named = os.environ.get("CELLTUNE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "celltune"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file's bytes.

    Raises:
        OSError: the file can't be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """The SHA-256 of one file's bytes, or of several files' digests.

    Raises:
        DataError: a file can't be read.
    """
    digests = []
    for path in paths:
        with reading(path):
            digests.append(file_digest(path))
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Writes a new file, or one anew, and returns when it is on the disk.

    Raises:
        OSError: the disk is full or may not be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Brings a folder's entries to the disk: what was made, renamed or removed in it.

    Raises:
        OSError: the disk doesn't take it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder_durably(path: Path) -> None:
    """Makes a folder and those above it that are missing, and returns when they are on the disk.

    Raises:
        OSError: it can't be made.
    """
    if not path.is_dir():
        make_folder_durably(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with reading ``path`` into a DataError that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise DataError(
            f"{path} is damaged or cut short ({error}); get the file again and compare its size "
            f"with the original's"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror or error}); check the path and its permissions"
        ) from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a full or read-only disk under ``folder`` into a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {folder} can't be written ({error.strerror or error}); nothing was changed "
            f"there. Make room, or set CELLTUNE_CACHE to a folder that can be written"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file ``path`` against every other process and thread; waits for it.

    The lock goes with the process that holds it, however that ends.

    Raises:
        OSError: the lock file can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file, plain or gzipped; which of the two is seen from its first bytes."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        binary = gzip.GzipFile(fileobj=raw) if zipped else raw
        with io.TextIOWrapper(
            binary, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as text:
            yield text
