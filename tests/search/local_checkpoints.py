from __future__ import annotations

from pathlib import Path

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.storage.checkpoints import LocalCheckpoints


def local_checkpoints(folder: Path) -> LocalCheckpoints:
    """Return the checkpoints in `folder`, which may be missing with its parent."""
    return LocalCheckpoints(EnclosedPath(folder.parent.parent, (folder.parent.name, folder.name)))
