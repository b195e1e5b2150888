"""Folders whose files are executed, such as compiled libraries: only their user may change them.

The owner and the mode are checked on the open folder, and its files are opened relative to it. A
parent folder can therefore be shared: who renames or replaces the folder in it cannot make another
user's folder belong to this user.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(OSError):
    """A folder or file that another user owns or can write, or that is something else."""


class PrivateFolder:
    """An open private folder; see `private_folder`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file.

        Args:
            name: the file's name.
            limit: the largest size in bytes; a larger file is read up to one byte more.

        Raises:
            NotPrivateError: it is not a regular file, or another user owns or can write it.
            OSError: the file is missing or cannot be read.
        """
        path = self.path / name
        with os.fdopen(os.open(name, _READ_FLAGS, dir_fd=self._descriptor), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotPrivateError(f"{path} is not a regular file. Delete it.")
            _check_private(path, status)
            return file.read(limit + 1)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other threads and processes out of contexts of the same name.

        Without effect if the file system has no locks. The kernel ends the lock of a process that
        is killed.

        Raises:
            OSError: the file of the lock cannot be created.
        """
        lock = f".{name}.lock"
        descriptor = os.open(lock, _LOCK_FLAGS, 0o600, dir_fd=self._descriptor)
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            # Whoever waits for the lock of the removed file finds out what was done meanwhile.
            with suppress(OSError):
                os.unlink(lock, dir_fd=self._descriptor)
            os.close(descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file: it has the old content or the new one, even after a power cut.

        Raises:
            OSError: the disk is full or read-only, or a folder has the name.
        """
        scratch = f".{name}.{secrets.token_hex(8)}"
        descriptor = os.open(scratch, _WRITE_FLAGS, 0o600, dir_fd=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(scratch, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch, dir_fd=self._descriptor)
            raise
        os.fsync(self._descriptor)


@contextmanager
def private_folder(path: Path) -> Iterator[PrivateFolder]:
    """Open a folder that only its user may change; create it with mode 0700 if it is missing.

    Raises:
        NotPrivateError: another user owns the folder or can write to it, or it is a symbolic link
            or a file.
        OSError: the folder cannot be created or opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        descriptor = os.open(path, _FOLDER_FLAGS)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise NotPrivateError(f"{path} is a symbolic link or a file. Delete it.") from error
        raise
    try:
        _check_private(path, os.fstat(descriptor))
        yield PrivateFolder(path, descriptor)
    finally:
        os.close(descriptor)


def _check_private(path: Path, status: os.stat_result) -> None:
    """Check that only the current user can change an open file or folder.

    Raises:
        NotPrivateError: another user owns it or can write to it.
    """
    user = os.geteuid()
    if status.st_uid != user:
        raise NotPrivateError(
            f"{path} belongs to the user with id {status.st_uid}, who could plant code in it, "
            f"instead of the current user (id {user}). Delete it, or set CELLTUNE_CACHE or TMPDIR, "
            "in which it is, to another folder."
        )
    if status.st_mode & _OTHERS_WRITE:
        raise NotPrivateError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: other users could have planted "
            "code in it. Delete it; it is created again with mode 0700."
        )
