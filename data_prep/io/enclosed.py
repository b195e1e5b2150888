"""Files below a folder, from which no path leads out.

The names below an experiment's folder come from its ledger and from the folder itself, which may
be someone else's. `EnclosedPath` opens each component of a path in the folder opened before
(`openat`) and follows no symbolic link, so that nothing outside of the root is ever read, written,
renamed or removed, even if the folder changes at the same moment.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from celltune.data_prep.io.files import write_all
from celltune.data_prep.io.regular import not_regular, open_regular, read_limited
from celltune.printable import quoted

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
TEXT_BYTES = 10_000_000
"""Largest size of a text file."""
_MAX_DEPTH = 100
"""Depth of nested folders that are removed: each level needs a descriptor."""


@dataclass(frozen=True)
class EnclosedPath:
    """A file or folder below a root. Instances are small and picklable; they hold nothing open.

    Every method raises an `OSError` that names this path if a component is a symbolic link, or is
    not the name of a file: empty, `.`, `..`, or with a slash.
    """

    root: Path
    """A folder that the user chose; its own path may contain symbolic links."""
    parts: tuple[str, ...] = ()
    """The names from the root to this path."""

    @classmethod
    def of(cls, path: Path) -> EnclosedPath:
        """Return a path whose root is its parent."""
        return cls(path.parent, (path.name,))

    def __str__(self) -> str:
        return os.path.join(self.root, *self.parts)  # noqa: PTH118 (an absolute name must not replace the root)

    def __truediv__(self, name: str) -> EnclosedPath:
        return EnclosedPath(self.root, (*self.parts, name))

    @property
    def name(self) -> str:
        """The last component."""
        return self.parts[-1]

    @property
    def parent(self) -> EnclosedPath:
        """The folder that contains this path."""
        return EnclosedPath(self.root, self.parts[:-1])

    @contextmanager
    def _in_folder(self) -> Iterator[int]:
        """Open the folder that contains this path."""
        with self._errors(), _folder(self.root, self.parts[:-1]) as folder:
            _check_name(self.name)
            yield folder

    @contextmanager
    def _as_folder(self) -> Iterator[int]:
        """Open this path, which is that of a folder."""
        with self._errors(), _folder(self.root, self.parts) as folder:
            yield folder

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A name that is relative to an open folder would tell a reader nothing.
            error.filename, error.filename2 = str(self), None
            raise

    def open(self) -> BinaryIO:
        """Return this regular file opened for reading.

        Raises:
            NotRegularFileError: it is a link, a FIFO, a device, a socket or a folder.
            OSError: it is missing or cannot be read.
        """
        with self._in_folder() as folder:
            return open_regular(self.name, follow=False, dir_fd=folder)

    def open_for_writing(self, flags: int = 0) -> int:
        """Return a descriptor of this regular file for reading and writing; create it if missing.

        Args:
            flags: further flags of `os.open`, such as `os.O_APPEND`.

        Raises:
            NotRegularFileError: it is a link, a FIFO, a device, a socket or a folder.
            OSError: it cannot be written, or it has another name, which may be outside of the root.
        """
        with self._in_folder() as folder:
            try:
                descriptor = os.open(self.name, _WRITE | flags, 0o644, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                    raise not_regular(self.name) from error
                raise
            try:
                _check_writable(os.fstat(descriptor), self.name)
            except OSError:
                os.close(descriptor)
                raise
            return descriptor

    def read_bytes(self, limit: int | None = None) -> bytes:
        """Return the content of this regular file.

        Args:
            limit: the largest size in bytes; None for no limit.

        Raises:
            FileTooLargeError: it is larger.
            NotRegularFileError: it is not a regular file.
            OSError: it is missing or cannot be read.
        """
        with self._errors(), self.open() as file:
            return file.read() if limit is None else read_limited(file, limit)

    def create(self, content: bytes) -> None:
        """Write a new file and wait until its content is on the disk.

        Raises:
            FileExistsError: something of this name exists.
            OSError: it cannot be written.
        """
        with self._in_folder() as folder:
            descriptor = os.open(self.name, _WRITE | os.O_EXCL, 0o644, dir_fd=folder)
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def write_bytes(self, content: bytes) -> None:
        """Create this file, or put a new file in the place of whatever has its name.

        What had the name is not opened: a link keeps its target, and the other names of a file
        keep their content.

        Raises:
            OSError: it cannot be written, or a folder has its name.
        """
        temporary = self.parent / f".{self.name}.{secrets.token_hex(8)}.new"
        temporary.create(content)
        try:
            temporary.rename(self.name)
        except OSError:
            temporary.unlink()
            raise

    def names(self) -> list[str]:
        """Return the names in this folder, sorted.

        Raises:
            OSError: it is missing, not a folder, or cannot be read.
        """
        with self._as_folder() as folder:
            return sorted(os.listdir(folder))  # noqa: PTH208 (an open folder)

    def exists(self) -> bool:
        """Return whether anything has this path.

        Raises:
            OSError: a folder on the path cannot be read, or is a symbolic link.
        """
        return self._kind() is not None

    def is_file(self) -> bool:
        """Return whether this is a regular file.

        Raises:
            OSError: a folder on the path cannot be read, or is a symbolic link.
        """
        return stat.S_ISREG(self._kind() or 0)

    def is_folder(self) -> bool:
        """Return whether this is a folder.

        Raises:
            OSError: a folder on the path cannot be read, or is a symbolic link.
        """
        return stat.S_ISDIR(self._kind() or 0)

    def _kind(self) -> int | None:
        try:
            with self._in_folder() as folder:
                return os.stat(self.name, dir_fd=folder, follow_symlinks=False).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def mkdir(self, *, exist_ok: bool = False) -> None:
        """Create this folder and wait until its entry is on the disk; its parent must exist.

        Raises:
            FileExistsError: something of this name exists, which is not a folder or not `exist_ok`.
            OSError: it cannot be created.
        """
        if exist_ok and self.is_folder():
            return
        with self._in_folder() as folder:
            try:
                os.mkdir(self.name, 0o755, dir_fd=folder)
            except FileExistsError:
                # Another process may have created it since.
                if not exist_ok or not self.is_folder():
                    raise
            os.fsync(folder)

    def sync(self) -> None:
        """Wait until the entries of this folder are on the disk.

        Raises:
            OSError: the disk cannot be written.
        """
        with self._as_folder() as folder:
            os.fsync(folder)

    def rename(self, name: str) -> None:
        """Give this path another name in the same folder; a file of that name is replaced.

        Raises:
            FileNotFoundError: it is missing.
            OSError: it cannot be renamed.
        """
        with self._in_folder() as folder:
            _check_name(name)
            os.rename(self.name, name, src_dir_fd=folder, dst_dir_fd=folder)

    def unlink(self) -> None:
        """Remove this file, or this link itself.

        Raises:
            FileNotFoundError: it is missing.
            OSError: it cannot be removed.
        """
        with self._in_folder() as folder:
            os.unlink(self.name, dir_fd=folder)

    def remove_all(self) -> None:
        """Remove this folder with all that it contains, or this file or link.

        Raises:
            FileNotFoundError: it is missing.
            OSError: it cannot be removed.
        """
        with self._in_folder() as folder:
            _remove(self.name, folder)

    def files(self) -> Iterator[tuple[EnclosedPath, int]]:
        """Yield the regular files in this folder and below it, with their sizes in bytes.

        Links and special files are left out, and so is what is removed meanwhile.

        Raises:
            OSError: it is missing, not a folder, or cannot be read.
        """
        with self._as_folder() as folder:
            found = sorted(_statuses(folder))
        for name, mode, size in found:
            inner = self / name
            if stat.S_ISREG(mode):
                yield inner, size
            elif stat.S_ISDIR(mode) and len(inner.parts) <= _MAX_DEPTH:
                with suppress(FileNotFoundError):
                    yield from inner.files()

    def read_text(self, encoding: str = "utf-8", limit: int = TEXT_BYTES) -> str:
        """Return the content of this file as text (see `read_bytes`)."""
        return self.read_bytes(limit).decode(encoding)

    def special_entry(self, depth: int) -> str | None:
        """Return the path of a symbolic link or special file, or None if there is none.

        Args:
            depth: how many levels of folders below this path are searched.

        Raises:
            OSError: a folder cannot be read.
        """
        kind = self._kind()
        if kind is None or stat.S_ISREG(kind):
            return None
        if not stat.S_ISDIR(kind):
            return str(self)
        with self._as_folder() as folder:
            return _special_entry(folder, str(self), depth)


def _special_entry(folder: int, path: str, depth: int) -> str | None:
    with os.scandir(folder) as entries:
        for entry in entries:
            inner = f"{path}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                found = _special_entry_below(entry.name, folder, inner, depth) if depth else None
                if found:
                    return found
            elif not entry.is_file(follow_symlinks=False):
                return inner
    return None


def _special_entry_below(name: str, parent: int, path: str, depth: int) -> str | None:
    try:
        folder = _open_folder(name, parent)
    except FileNotFoundError:
        return None  # Removed since it was listed.
    try:
        return _special_entry(folder, path, depth - 1)
    finally:
        os.close(folder)


def _statuses(folder: int) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the mode and the size of each entry of an open folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield entry.name, status.st_mode, status.st_size


def _check_writable(status: os.stat_result, name: str) -> None:
    """Check that a write to an open file changes this file only."""
    if not stat.S_ISREG(status.st_mode):
        raise not_regular(name)
    if status.st_nlink > 1:
        text = f"{quoted(name)} is a hard link: a write would change another file, too"
        raise OSError(errno.EMLINK, f"{text}. Replace it by a copy of itself", name)


@contextmanager
def _folder(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Open a folder component by component."""
    descriptor = os.open(root, _FOLDER)
    try:
        for name in parts:
            inner = _open_folder(name, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(name: str, parent: int) -> int:
    _check_name(name)
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(name, parent):
            text = f"{quoted(name)} is a symbolic link, which is not followed"
            raise OSError(errno.ELOOP, text, name) from error
        raise


def _is_link(name: str, parent: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _check_name(name: str) -> None:
    try:
        valid = name not in ("", ".", "..") and not {0, ord("/")} & set(os.fsencode(name))
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise OSError(errno.EINVAL, f"{quoted(name)} is not the name of a file", name)


def _remove(name: str, parent: int, depth: int = 0) -> None:
    """Remove an entry of an open folder."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    if depth == _MAX_DEPTH:
        raise OSError(errno.ELOOP, f"It contains folders more than {_MAX_DEPTH} levels deep", name)
    folder = _open_folder(name, parent)
    try:
        for entry in os.listdir(folder):  # noqa: PTH208 (an open folder)
            _remove(entry, folder, depth + 1)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)
