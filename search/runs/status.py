"""Whether an experiment runs, finished, stopped or was killed."""

from __future__ import annotations

from celltune.search.storage.snapshot import Snapshot
from celltune.search.tuning.stopping import end_reason


def _standing(snapshot: Snapshot) -> str:
    if snapshot.running:
        return "running"
    if end_reason(snapshot.config, snapshot.state) is not None:
        return "finished"
    return "stopped" if snapshot.state.ended else "killed"
