"""Open files that may come from someone else: only regular ones, and only up to a size.

A FIFO, a device or a socket at the place of a file would otherwise block its reader forever or
never end. The type is checked after opening, because it could change between a check and the
opening.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class NotRegularFileError(OSError):
    """A folder, symbolic link, FIFO, device or socket where a file is expected."""


class FileTooLargeError(OSError):
    """A file with more bytes than its reader accepts."""


def open_regular(
    path: str | os.PathLike[str], *, follow: bool = True, dir_fd: int | None = None
) -> BinaryIO:
    """Return a regular file opened for reading, without waiting for another process.

    Args:
        path: the file.
        follow: whether the last component of the path may be a symbolic link.
        dir_fd: an open folder that a relative path starts from.

    Raises:
        NotRegularFileError: the path is that of a folder, FIFO, device or socket, or of a symbolic
            link that must not be followed.
        OSError: the file is missing or cannot be read.
    """
    try:
        descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW, dir_fd=dir_fd)
    except OSError as error:
        # ENXIO: a socket, or a device without a driver. ELOOP: a symbolic link.
        if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and not follow):
            raise not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_regular(path)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], *, limit: int, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Args:
        path: the file.
        limit: the largest size in bytes; a larger file is not read.
        follow: whether the last component of the path may be a symbolic link.

    Raises:
        FileTooLargeError: the file is larger than `limit`, or grew beyond it while it was read.
        NotRegularFileError: the path is not that of a regular file.
        OSError: the file is missing or cannot be read.
    """
    with open_regular(path, follow=follow) as file:
        return read_limited(file, limit)


def read_limited(file: BinaryIO, limit: int) -> bytes:
    """Return the content of an open regular file of at most `limit` bytes.

    Raises:
        FileTooLargeError: the file is larger than `limit`, or grew beyond it while it was read.
        OSError: the file cannot be read.
    """
    size, chunks = os.fstat(file.fileno()).st_size, list[bytes]()
    if size <= limit:
        # Python allocates what it is asked for, so it is not asked for `limit` bytes.
        chunks.append(file.read(size))
        size = len(chunks[0])
        while size <= limit and (chunk := file.read(_CHUNK_BYTES)):
            chunks.append(chunk)
            size += len(chunk)
    if size > limit:
        raise FileTooLargeError(errno.EFBIG, f"Larger than {limit:,} bytes", file.name)
    return b"".join(chunks)


def not_regular(path: str | os.PathLike[str]) -> NotRegularFileError:
    """Return the error for a path that is not that of a regular file."""
    return NotRegularFileError(errno.EINVAL, "Not a regular file", os.fspath(path))
