"""Record a search in MLflow: one MLflow experiment with one run per trial."""

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
"""Tag that identifies the search of a run: its creation time and the data's fingerprint."""

TRIAL = "celltune.trial"
"""Tag with the trial's number."""

EPOCHS = "celltune.epochs"
"""Tag of an ended run: the number of epochs it contains."""

_STATUSES = {"completed": "FINISHED", "pruned": "KILLED"}


class Client(Protocol):
    """The methods of `mlflow.MlflowClient` that are used. Times are milliseconds since 1970."""

    def get_experiment_by_name(self, name: str) -> Any:
        """Return an experiment, or None."""

    def create_experiment(self, name: str) -> str:
        """Create an experiment and return its id."""

    def search_runs(
        self, experiment_ids: list[str], filter_string: str, *, page_token: str | None
    ) -> Any:
        """Return one page of runs."""

    def get_metric_history(self, run_id: str, key: str) -> Any:
        """Return all logged values of a metric."""

    def create_run(
        self, experiment_id: str, *, start_time: int, tags: dict[str, str], run_name: str
    ) -> Any:
        """Create a run."""

    def log_param(self, run_id: str, key: str, value: Any) -> Any:
        """Log a parameter. Logging the same value again has no effect."""

    def log_metric(self, run_id: str, key: str, value: float, timestamp: int, step: int) -> Any:
        """Log a value of a metric."""

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """Set a tag of a run."""

    def update_run(self, run_id: str, status: str) -> None:
        """Set the status of a run."""

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run."""


class MlflowTracker:
    """A tracker that writes to the MLflow experiment with the search's name.

    It asks MLflow what earlier runs of the search recorded: an ended run has a tag with its number
    of epochs; for others, the last step of each metric is queried.
    """

    def __init__(self, client: Client, name: str) -> None:
        """Write to the MLflow experiment `name`, which is created if it is missing."""
        self._client = client
        existing = client.get_experiment_by_name(name)
        self._experiment_id = (
            client.create_experiment(name) if existing is None else existing.experiment_id
        )
        self._search = ""
        self._run_ids: dict[int, str] = {}
        self._ended_after: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._last_steps: dict[int, dict[str, int]] = {}

    def record(self, event: Event) -> None:
        """Record an event, or skip it if MLflow has it already."""
        if isinstance(event, ExperimentCreated):
            self._search = f"{event.at:.3f} {event.fingerprint[:12]}"
            self._find_runs()
        elif isinstance(event, TrialCreated):
            self._start_run(event)
        elif isinstance(event, EpochReported):
            self._log_epoch(event)
        elif isinstance(event, (TrialStopped, TrialFailed)):
            self._end_run(event)

    def _find_runs(self) -> None:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{SEARCH}` = '{self._search}'", page_token=token
            )
            for run in page:
                number = int(run.data.tags[TRIAL])
                self._run_ids[number] = run.info.run_id
                if run.info.status != "RUNNING":
                    self._ended_after[number] = int(run.data.tags[EPOCHS])
            token = page.token
            if not token:
                return

    def _start_run(self, event: TrialCreated) -> None:
        if event.number in self._ended_after:
            return
        if event.number not in self._run_ids:
            run = self._client.create_run(
                self._experiment_id,
                start_time=_milliseconds(event.at),
                tags={SEARCH: self._search, TRIAL: str(event.number)},
                run_name=f"trial-{event.number}",
            )
            self._run_ids[event.number] = run.info.run_id
        for name, value in event.params.items():
            self._client.log_param(self._run_ids[event.number], name, value)

    def _log_epoch(self, event: EpochReported) -> None:
        number, run_id = event.number, self._run_ids[event.number]
        self._epochs[number] = event.epoch
        if event.epoch <= self._ended_after.get(number, 0):
            return
        last_steps = self._last_steps.setdefault(number, {})
        if number in self._ended_after:  # A larger budget or a retry reopened the trial.
            last = self._ended_after.pop(number)
            last_steps.update({name: last_steps.get(name, last) for name in event.metrics})
            self._client.update_run(run_id, status="RUNNING")
        for name, value in event.metrics.items():
            if name not in last_steps:
                history = self._client.get_metric_history(run_id, name)
                last_steps[name] = max((metric.step for metric in history), default=0)
            if event.epoch > last_steps[name]:
                self._client.log_metric(run_id, name, value, _milliseconds(event.at), event.epoch)
                last_steps[name] = event.epoch

    def _end_run(self, event: TrialStopped | TrialFailed) -> None:
        number, run_id = event.number, self._run_ids[event.number]
        epochs = self._epochs.get(number, 0)
        if epochs <= self._ended_after.get(number, -1):
            return
        reason = event.reason if isinstance(event, TrialStopped) else event.error
        self._client.set_tag(run_id, "celltune.stopped", reason)
        self._client.set_tag(run_id, EPOCHS, str(epochs))
        status = _STATUSES[event.reason] if isinstance(event, TrialStopped) else "FAILED"
        self._client.set_terminated(run_id, status, _milliseconds(event.at))
        self._ended_after[number] = epochs

    def close(self) -> None:
        """Do nothing: all calls are sent immediately."""


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
