"""Durable writes, digests, file locks, and error messages that name the file."""

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
GZIP_MAGIC = b"\x1f\x8b"


def default_cache_dir() -> Path:
    """Return `$CELLTUNE_CACHE` if it is set, else `~/.cache/celltune`."""
    configured = os.environ.get("CELLTUNE_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "celltune"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of one file's bytes, or of the digests of several files.

    Raises:
        DataError: a file cannot be read.
    """
    digests = []
    for path in paths:
        with reading(path):
            digests.append(file_digest(path))
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write or overwrite a file and wait until its content is on the disk.

    Raises:
        OSError: the disk is full or read-only.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(descriptor, remaining) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the entries of a folder (created, renamed or removed files) are on the disk.

    Raises:
        OSError: the disk cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder_durably(path: Path) -> None:
    """Create a folder and its missing parents and wait until they are on the disk.

    Raises:
        OSError: the folder cannot be created.
    """
    if not path.is_dir():
        make_folder_durably(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert errors while reading `path` to a `DataError` that names the file.

    Raises:
        DataError: the file is missing, unreadable, damaged or truncated.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise DataError(
            f"{path} is damaged or truncated ({error}). Get the file again and compare its size "
            f"with the original."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}). Check the path and its "
            f"permissions."
        ) from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Convert errors while writing to a cache folder to a `DataError` that names the folder.

    Raises:
        DataError: the disk is full or read-only.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The cache {folder} cannot be written ({error.strerror or error}). It is unchanged. "
            f"Free some space, or set CELLTUNE_CACHE to a writable folder."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; wait while another process or thread holds it.

    The operating system releases the lock when the process ends.

    Raises:
        OSError: the lock file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, plain or gzipped (detected from its first bytes), for reading.

    A byte order mark is skipped, line breaks are kept, and bytes that are not valid UTF-8 are
    decoded to lone surrogates.
    """
    with path.open("rb") as raw:
        is_gzipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        binary = gzip.GzipFile(fileobj=raw) if is_gzipped else raw
        with io.TextIOWrapper(
            binary, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as text:
            yield text
