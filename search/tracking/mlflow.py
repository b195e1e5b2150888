"""A search in MLflow: an experiment, and in it a run for each trial."""

from __future__ import annotations

from typing import Any, Protocol

from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)

SEARCH = "celltune.search"
"""The tag that says of which search a run is: when it was created, and on which data."""

TRIAL = "celltune.trial"
"""The tag that holds a trial's number."""

EPOCHS = "celltune.epochs"
"""The tag of a run that ended: how many epochs it holds."""

_ENDS = {"completed": "FINISHED", "pruned": "KILLED"}


class Client(Protocol):
    """What is used of `mlflow.MlflowClient`."""

    def get_experiment_by_name(self, name: str) -> Any:
        """Give an experiment, or None."""

    def create_experiment(self, name: str) -> str:
        """Make an experiment and give its id."""

    def search_runs(
        self, experiment_ids: list[str], filter_string: str, *, page_token: str | None
    ) -> Any:
        """Give a page of runs."""

    def get_metric_history(self, run_id: str, key: str) -> Any:
        """Give every value that was logged of a metric."""

    def create_run(
        self, experiment_id: str, *, start_time: int, tags: dict[str, str], run_name: str
    ) -> Any:
        """Make a run; times are milliseconds since 1970."""

    def log_param(self, run_id: str, key: str, value: Any) -> Any:
        """Log a parameter; the same value again changes nothing."""

    def log_metric(self, run_id: str, key: str, value: float, timestamp: int, step: int) -> Any:
        """Log a value of a metric."""

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """Set a tag of a run."""

    def update_run(self, run_id: str, status: str) -> None:
        """Set the status of a run."""

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run."""


class MlflowTracker:
    """Writes an MLflow experiment of the search's name, with a run for each trial.

    What a run holds already is asked of MLflow itself: one that ended says how many epochs it has,
    of one that didn't the steps of its measures are looked up.
    """

    def __init__(self, client: Client, name: str) -> None:
        """Write through `client` into the experiment `name`, which is made if there is none."""
        self._client = client
        known = client.get_experiment_by_name(name)
        self._experiment = client.create_experiment(name) if known is None else known.experiment_id
        self._search = ""
        self._runs: dict[int, str] = {}
        self._ended: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._steps: dict[int, dict[str, int]] = {}

    def take(self, event: Event) -> None:
        """Take in an event, or pass over it if MLflow holds it."""
        if isinstance(event, ExperimentCreated):
            self._search = f"{event.at:.3f} {event.fingerprint[:12]}"
            self._find_runs()
        elif isinstance(event, TrialCreated):
            self._create(event)
        elif isinstance(event, EpochReported):
            self._report(event)
        elif isinstance(event, (TrialStopped, TrialFailed)):
            self._end(event)

    def _find_runs(self) -> None:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{SEARCH}` = '{self._search}'", page_token=token
            )
            for run in page:
                number = int(run.data.tags[TRIAL])
                self._runs[number] = run.info.run_id
                if run.info.status != "RUNNING":
                    self._ended[number] = int(run.data.tags[EPOCHS])
            token = page.token
            if not token:
                return

    def _create(self, event: TrialCreated) -> None:
        if event.number in self._ended:
            return
        if event.number not in self._runs:
            run = self._client.create_run(
                self._experiment,
                start_time=_milliseconds(event.at),
                tags={SEARCH: self._search, TRIAL: str(event.number)},
                run_name=f"trial-{event.number}",
            )
            self._runs[event.number] = run.info.run_id
        for name, value in event.params.items():
            self._client.log_param(self._runs[event.number], name, value)

    def _report(self, event: EpochReported) -> None:
        number, run = event.number, self._runs[event.number]
        self._epochs[number] = event.epoch
        if event.epoch <= self._ended.get(number, 0):
            return
        steps = self._steps.setdefault(number, {})
        if number in self._ended:  # a larger budget, or another try, let it go on
            held = self._ended.pop(number)
            steps.update({name: steps.get(name, held) for name in event.metrics})
            self._client.update_run(run, status="RUNNING")
        for name, value in event.metrics.items():
            if name not in steps:
                history = self._client.get_metric_history(run, name)
                steps[name] = max((metric.step for metric in history), default=0)
            if event.epoch > steps[name]:
                self._client.log_metric(run, name, value, _milliseconds(event.at), event.epoch)
                steps[name] = event.epoch

    def _end(self, event: TrialStopped | TrialFailed) -> None:
        number, run = event.number, self._runs[event.number]
        epochs = self._epochs.get(number, 0)
        if epochs <= self._ended.get(number, -1):
            return
        told = event.reason if isinstance(event, TrialStopped) else event.error
        self._client.set_tag(run, "celltune.stopped", told)
        self._client.set_tag(run, EPOCHS, str(epochs))
        status = _ENDS[event.reason] if isinstance(event, TrialStopped) else "FAILED"
        self._client.set_terminated(run, status, _milliseconds(event.at))
        self._ended[number] = epochs

    def close(self) -> None:
        """Nothing is held back."""


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
