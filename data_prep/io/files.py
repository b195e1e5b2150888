"""Durable writes, digests, file locks, and error messages that name the file."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.regular import NotRegularFileError, not_regular, open_regular
from celltune.data_prep.types import Progress

CHUNK_BYTES = 1 << 20
REPORTED_BYTES = 256 * CHUNK_BYTES
"""Bytes between two progress reports."""
GZIP_MAGIC = b"\x1f\x8b"


def default_cache_dir() -> Path:
    """Return `$CELLTUNE_CACHE` if it is set, else `~/.cache/celltune`."""
    configured = os.environ.get("CELLTUNE_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "celltune"


def file_digest(path: Path, algorithm: str = "sha256", progress: Progress | None = None) -> str:
    """Return the hexadecimal digest of a file's bytes.

    Args:
        path: the file.
        algorithm: a name that `hashlib` knows.
        progress: called as `progress("check", bytes_done, bytes_total)` while a large file is read.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        done = 0
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            if progress and done % REPORTED_BYTES == 0:
                progress("check", done, size)
    return digest.hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Write or overwrite a file and wait until its content is on the disk.

    Raises:
        OSError: the disk is full or read-only.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content` to an open file: one call of `os.write` may write only a part.

    Raises:
        OSError: the disk is full or read-only.
    """
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


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
    except NotRegularFileError as error:
        raise DataError(
            f"{path} is not a regular file, but a folder, a pipe, a socket or a device. Write its "
            f"content to a file first; a shell's <(...) is a pipe, too."
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
        OSError: the lock file cannot be created, or is a symbolic link or a special file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # For reading and writing, a FIFO in the place of the file would be opened without a reader.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise not_regular(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
