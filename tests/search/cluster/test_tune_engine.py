from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from celltune.search.cluster.tune_engine import TuneEngine
from celltune.search.cluster.worker import train_packed, train_separately
from celltune.search.storage.local import LocalExperiment
from celltune.search.tuning.controller import Assignment
from tests.search.simulated_search import make_config


@pytest.mark.parametrize(
    ("per_worker", "alone", "work"),
    [(1, False, train_separately), (4, False, train_packed), (4, True, train_separately)],
)
def test_a_trial_that_shares_its_worker_with_no_other_is_not_packed(
    per_worker: int, alone: bool, work: Any, tmp_path: Path
) -> None:
    config = make_config(resources={"trials_per_worker": per_worker})
    data = cast("Any", None)
    engine = TuneEngine(config, LocalExperiment(tmp_path / "demo"), data, 1, lambda: None)
    assignment = Assignment(0, {"wide": "only"}, 1, (), alone)
    assert engine._worker_task((engine._trial_task(assignment),)).work is work
