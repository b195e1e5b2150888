"""The folder in which a worker runs one hostile input after another.

::

    storage/    experiments: small (finished), other (finished), open (interrupted)
    bundles/    trial, ensemble and linear: exported models
    cache/      prepared data and compiled code
    files/      files of the input: configs, data, reviews
    out/        what commands write with `--output`
    outside/    files that no command may touch
    cwd/        the working directory, with modules that must never be imported
    home/ tmp/  $HOME and $TMPDIR
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIECES = ("storage/small", "storage/other", "storage/open", "bundles", "cache", "outside", "cwd")
"""What every input finds in its original state."""
SCRATCH = ("files", "out", "tmp")
"""What every input finds empty."""

Signature = tuple[tuple[str, int, int, int], ...]


class Box:
    """A copy of the fixtures that repairs itself between inputs."""

    def __init__(self, root: Path, fixtures: Path) -> None:
        """Copy the fixtures to the folder `root`, which is replaced."""
        self.root, self.fixtures = root, fixtures
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for name in ("storage", "home"):
            (root / name).mkdir()
        for piece in PIECES:
            shutil.copytree(fixtures / piece, root / piece, symlinks=True)
        self._signatures = {piece: signature(root / piece) for piece in PIECES}
        self.restore()

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def restore(self) -> None:
        """Return to the original state."""
        for name in SCRATCH:
            remove(self.root / name)
            (self.root / name).mkdir()
        for entry in os.scandir(self.root / "storage"):
            if f"storage/{entry.name}" not in PIECES:
                remove(Path(entry.path))
        for piece in self.changed():
            remove(self.root / piece)
            shutil.copytree(self.fixtures / piece, self.root / piece, symlinks=True)
            self._signatures[piece] = signature(self.root / piece)
        # The folder may be a new one.
        os.chdir(self.root / "cwd")

    def changed(self) -> list[str]:
        """Return the pieces that differ from their original state."""
        return [
            piece for piece in PIECES if signature(self.root / piece) != self._signatures[piece]
        ]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Put the current state aside, and return to the original one for a moment."""
        kept = self.root.with_name(f"{self.root.name}-aside")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        (kept / "storage").mkdir()
        names = [*PIECES, *SCRATCH]
        names += [
            f"storage/{name}"
            for name in names_in(self.root / "storage")
            if f"storage/{name}" not in PIECES
        ]
        for name in names:
            (self.root / name).rename(kept / name)
        signatures = dict(self._signatures)
        self.restore()
        try:
            yield
        finally:
            self.restore()
            for name in names:
                remove(self.root / name)
                (kept / name).rename(self.root / name)
            self._signatures = signatures
            os.chdir(self.root / "cwd")

    def enter(self) -> None:
        """Make this process use the box only: environment and working directory."""
        os.environ.update(self.environment())
        os.chdir(self.root / "cwd")
        tempfile.tempdir = str(self.root / "tmp")

    def environment(self) -> dict[str, str]:
        """Return the environment variables of commands in the box."""
        return {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            # Otherwise torch makes a folder in /tmp, whatever $TMPDIR is.
            "TORCHINDUCTOR_CACHE_DIR": str(self.root / "tmp" / "inductor"),
            "CELLTUNE_STORAGE": str(self.root / "storage"),
            "CELLTUNE_CACHE": str(self.root / "cache"),
            "MPLCONFIGDIR": str(self.fixtures / "matplotlib"),
            "COLUMNS": "120",
            "TERM": "dumb",
        }

    def everyone_may_write(self) -> tuple[Path, ...]:
        """Return the folders that any command may change."""
        own = (self.root / name for name in ("cache", "tmp", "home", "out"))
        return (*own, self.fixtures / "matplotlib")


def names_in(folder: Path) -> list[str]:
    """Return the names of a folder's entries, sorted."""
    return sorted(path.name for path in folder.iterdir())


def signature(path: Path) -> Signature:
    """Return names, types, sizes and times of everything in a folder."""
    found: list[tuple[str, int, int, int]] = []
    folders = [str(path)]
    while folders:
        folder = folders.pop()
        try:
            status = os.lstat(folder)
        except OSError:
            found.append((folder, 0, 0, 0))
            continue
        found.append((folder, status.st_mode, status.st_ino, 0))
        if not stat.S_ISDIR(status.st_mode):
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    one = entry.stat(follow_symlinks=False)
                    found.append((entry.path, one.st_mode, one.st_size, one.st_mtime_ns))
    return tuple(sorted(found))


def remove(path: Path) -> None:
    """Remove a file, a link, a special file or a folder; it may be missing."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o700)
    shutil.rmtree(path)
