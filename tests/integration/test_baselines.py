"""Baselines that are measured beside the trials, in the shared local Ray cluster."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.baselines.linear import BASELINES
from celltune.search.baselines.validation import LabelsOfSplits, ValidationMeter, ValidationScores
from celltune.search.cluster.baseline_worker import BaselineWorker
from celltune.search.ledger.events import BaselineValidated, EpochReported
from celltune.search.ledger.ledger import read
from celltune.search.runs import baselines
from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import Run
from tests.integration.test_resume import write_config
from tests.search.assertions import assert_all_ended

NAMES = list(BASELINES)
SHORT: dict[str, Any] = {"budget": {"trials": 1, "max_epochs": 1}, "early_stopping": None}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search wait for its baselines for as long as a busy machine needs."""
    monkeypatch.setattr(baselines, "WAIT_SECONDS", 240.0)


class Meter(ValidationMeter):
    """Tells which process measures, or fails."""

    def __init__(self) -> None:
        pass

    def measure(self, name: str) -> ValidationScores:
        if name == "memory":
            raise MemoryError
        if name == "killed":
            time.sleep(1)  # Ray sends the previous result after its call has returned.
            os._exit(1)
        return ValidationScores(os.getpid(), os.nice(0), 0.5, None, None, time.time())


def test_baselines_are_measured_one_after_the_other_in_one_process(local_ray: None) -> None:
    worker = BaselineWorker(Meter(), ["first", "memory", "second", "killed", "last"])
    results = {}
    while worker.unfinished:
        results.update({result.name: result for result in worker.results(10.0)})
    worker.close()
    assert worker.results() == []
    first, second = results["first"].scores, results["second"].scores
    assert first is not None
    assert second is not None
    assert first.valid_accuracy == second.valid_accuracy != os.getpid(), "the same process"
    assert first.seconds < second.seconds
    assert first.valid_macro_f1 == 19, "the lowest priority"
    assert results["memory"].error == "There is too little memory."
    for name in ("memory", "killed", "last"):
        assert results[name].scores is None
    assert "died" in results["killed"].error
    assert results["killed"].error.endswith(".")


def test_a_search_records_the_baselines_and_compares_the_best_trial(
    command: Run, env: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "c.yaml", budget={"trials": 2, "max_epochs": 2}, baselines=True
    )
    done = command("launch", config)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    state = folder.state()
    assert_all_ended(state, 2)
    assert list(state.validated) == NAMES
    assert state.test_reads == 0
    data = DataConfig(source="synthetic", reviews=1000, max_tokens=60)
    labels = LabelsOfSplits.of(prepare(data, cache_dir=Path(env["CELLTUNE_CACHE"])))
    expected = ValidationMeter(data, labels, tmp_path).measure("nb_svm")
    assert state.validated["nb_svm"].valid_accuracy == expected.valid_accuracy
    events = read(folder.ledger)
    kinds = [type(event) for event in events]
    assert kinds.index(EpochReported) < kinds.index(BaselineValidated)
    assert "than the best linear model" in " ".join(done.stdout.split())
    assert f"baseline {NAMES[0]}: validation accuracy" in done.stdout


def test_a_resumed_search_measures_the_missing_baselines_only(
    command: Run, env: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", **SHORT)
    assert command("launch", config, "--set", "baselines=false").returncode == 0
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")
    assert folder.state().validated == {}
    known = BaselineValidated(
        at=1.0, name="nb_svm", valid_accuracy=0.25, valid_macro_f1=0.25, seconds=1.0
    )
    with folder.open_ledger() as ledger:
        ledger.append(known)
    done = command("resume", "cut", "--trials", "+1", "--set", "baselines=true")
    assert done.returncode == 0, done.stdout + done.stderr
    state = folder.state()
    assert set(state.validated) == set(NAMES)
    assert state.validated["nb_svm"] == known


def test_a_baseline_that_fails_does_not_affect_the_search(
    command: Run, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(data: object) -> LabelsOfSplits:
        return LabelsOfSplits([], [], 2)  # type: ignore[arg-type]

    monkeypatch.setattr(LabelsOfSplits, "of", changed)
    config = write_config(tmp_path / "c.yaml", **SHORT, baselines=True)
    done = command("launch", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("was not measured. synthetic: the documents changed") == 3
    assert_all_ended(LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut").state(), 1)
