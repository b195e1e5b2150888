"""The tracker with a real MLflow database."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.ledger.state import ExperimentState
from celltune.search.tracking.mlflow import MlflowTracker
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps


@pytest.mark.filterwarnings("ignore")  # warnings of mlflow itself
def test_mlflow_accepts_the_runs_of_the_tracker(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    config = make_config(budget={"trials": 3, "max_epochs": 4})
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        list(steps(make_controller(config, ledger)))
        events = ledger.events
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for cut in (4, len(events)):
        tracker = MlflowTracker(mlflow.MlflowClient(tracking_uri=uri), "demo")
        for event in events[:cut]:
            tracker.take(event)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    runs = {int(run.data.tags["celltune.trial"]): run for run in client.search_runs([experiment])}
    for trial in ExperimentState(events).trials:
        run = runs[trial.number]
        history = client.get_metric_history(run.info.run_id, "valid_accuracy")
        assert [(metric.step, metric.value) for metric in history] == [
            (epoch.epoch, epoch.metrics["valid_accuracy"]) for epoch in trial.epochs
        ]
        assert run.data.params == {name: str(value) for name, value in trial.params.items()}
        assert run.info.status == ("FINISHED" if trial.status == "completed" else "KILLED")
