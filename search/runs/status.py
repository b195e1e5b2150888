"""Whether an experiment runs, finished, stopped or was killed."""

from __future__ import annotations

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import ExperimentFolder
from celltune.search.tuning.stopping import end_reason


def _standing(folder: ExperimentFolder, config: SearchConfig, state: ExperimentState) -> str:
    if folder.is_locked():
        return "running"
    if end_reason(config, state) is not None:
        return "finished"
    return "stopped" if state.ended else "killed"
