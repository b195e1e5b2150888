"""Progress of a running search: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from celltune.printable import printable
from celltune.search.cli.live_table import drawing
from celltune.search.cli.output import end_before_output, hanging
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.causes import CAUSES, WORKER_CAUSES
from celltune.search.ledger.events import (
    BaselineValidated,
    EpochReported,
    Event,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WorkerLost,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.objective import BY_ACCURACY
from celltune.search.results.ranking import label_of, majority_sentence
from celltune.search.runs.view import SilentView
from celltune.search.storage.base import Experiment
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import Metric
from celltune.search.wording import (
    counted,
    describe_params,
    distinguishing_params,
    metric_text,
    percent_text,
)

STAGES = {
    "download": "Downloading",
    "check": "Checking data files",
    "labels": "Checking texts and labels",
    "read": "Reading documents",
    "tokenize": "Tokenizing documents",
    "trial": "Training trials for seconds",
    "vector file": "Reading word vectors",
    "vectors": "Training word vectors",
    "wide": "Fitting the wide part",
    "predict": "Classifying texts",
}
"""Stages of the preparation of data, as they are shown."""


class PlainView(SilentView):
    """Writes one line per event, for log files and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Create a view.

        Args:
            write: called with each line, which is printable.
        """
        self._print = write
        self._stages: set[str] = set()
        self._config: SearchConfig | None = None

    def _write(self, line: str) -> None:
        self._print(printable(line))

    def stage(self, text: str) -> None:
        """Write the name of a stage."""
        self._write(f"{text} ...")

    def message(self, line: str) -> None:
        """Write the line."""
        self._write(line)

    def progress(self, stage: str, done: int, total: int | None) -> None:  # noqa: ARG002
        """Write a line when a new stage starts."""
        if stage not in self._stages:
            self._stages.add(stage)
            self.stage(STAGES.get(stage, stage))

    def running(
        self, experiment: Experiment, config: SearchConfig, state: ExperimentState
    ) -> AbstractContextManager[None]:
        """Write the budget and the location of the results."""
        self._config = config
        done = len(state.trials) - state.count("unfinished")
        self._write(
            f"Searching: {counted(planned_trials(config, state), 'trial')} of up to "
            f"{counted(config.budget.max_epochs, 'epoch')}, {done} done; "
            f"results in {experiment.location}"
        )
        if sentence := majority_sentence(state):
            self._write(sentence)
        return nullcontext()

    def event(self, event: Event, state: ExperimentState) -> None:
        """Write a line if the event concerns a trial or a baseline."""
        if self._config is None:
            return
        metric = self._config.metric
        if isinstance(event, TrialCreated):
            params = distinguishing_params(event.params, self._config.varied)
            self._write(f"trial {event.number} starts: {describe_params(params)}")
        elif isinstance(event, EpochReported):
            trial = state.trials[event.number]
            self._write(
                f"trial {event.number} epoch {event.epoch}/{trial.max_epochs}: "
                f"{metric} {metric_text(metric, event.metrics[metric])} "
                f"({event.metrics.get('seconds', 0.0):.1f} s)"
            )
        elif isinstance(event, TrialStopped):
            trial = state.trials[event.number]
            best = metric_text(metric, trial.best_value(metric))
            label = label_of(state, trial, metric)
            self._write(
                f"trial {event.number} {event.reason}: best {metric} {best}{label and f', {label}'}"
            )
        elif isinstance(event, TrialFailed):
            self._write(f"trial {event.number} failed: {event.error}")
        elif isinstance(event, WorkerLost):
            self._write(_loss_of_trial(event))
        elif isinstance(event, BaselineValidated):
            self._write(
                f"baseline {event.name}: validation accuracy {percent_text(event.valid_accuracy)}"
                f"{_other_score(event, metric)} ({event.seconds:.1f} s)"
            )


def _other_score(event: BaselineValidated, metric: Metric) -> str:
    """Return the score of a baseline by a metric other than accuracy and loss; empty if unknown."""
    value = None if metric in BY_ACCURACY else event.score(metric)
    return "" if value is None else f", {metric} {metric_text(metric, value)}"


def _loss_of_trial(event: WorkerLost) -> str:
    return (
        f"trial {event.number} continues from its checkpoint because "
        f"{CAUSES[event.cause]}: {event.error}"
    )


def _loss_of_pack(event: WorkerLost) -> str:
    return (
        f"A worker {WORKER_CAUSES[event.cause]}, and its trials continue from their checkpoints: "
        f"{event.error}"
    )


class LiveView(SilentView):
    """Draws a table that is updated four times a second, for terminals."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Create a view.

        Args:
            console: the terminal.
            clock: monotonic time in seconds.
        """
        self._console = console
        self._clock = clock
        self._bars: Progress | None = None
        self._is_packed = False
        self._workers_lost = 0

    def stage(self, text: str) -> None:
        """Print the name of a stage."""
        self.close()
        self._console.print(Text(printable(f"{text} ..."), style="dim"))

    def message(self, line: str) -> None:
        """Print the line above the progress bars."""
        self._console.print(hanging(self._console, printable(line)))

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Draw one progress bar per stage."""
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", style="dim", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.completed:,}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
            end_before_output(self.close)
        description = printable(STAGES.get(stage, stage))
        known = {task.description: task.id for task in self._bars.tasks}
        task = known.get(description)
        if task is None:
            task = self._bars.add_task(description, total=total)
        self._bars.update(task, completed=done, total=total)

    def close(self) -> None:
        """Remove the progress bars."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    @contextmanager
    def _live(self, draw: Callable[[], Group]) -> Iterator[None]:
        live = Live(
            get_renderable=draw, console=self._console, refresh_per_second=4, transient=True
        )
        with _restored_handlers() as handlers, live:
            # What is written past `live` moves the drawing, and a part of it then remains forever.
            for handler in handlers:
                handler.setStream(sys.stderr)
            yield

    def running(
        self, experiment: Experiment, config: SearchConfig, state: ExperimentState
    ) -> AbstractContextManager[None]:
        """Draw the search until the context exits."""
        self.close()
        self._is_packed = config.resources.trials_per_worker > 1
        self._workers_lost = state.workers_lost
        start = self._clock()
        return self._live(
            lambda: drawing(
                experiment,
                config,
                state,
                self._clock() - start,
                size=self._console.size,
                ascii_only=self._console.options.ascii_only,
            )
        )

    def event(self, event: Event, state: ExperimentState) -> None:
        """Print a line above the table if a worker was lost, one for all of its trials."""
        if isinstance(event, WorkerLost) and state.workers_lost > self._workers_lost:
            self._workers_lost = state.workers_lost
            text = _loss_of_pack(event) if self._is_packed else _loss_of_trial(event)
            self._console.print(Text(printable(text), style="yellow"))


@contextmanager
def _restored_handlers() -> Iterator[list[logging.StreamHandler[Any]]]:
    """Yield the log handlers that write to the terminal; restore their streams at the end."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = {
        handler: handler.stream
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
    }
    try:
        yield list(handlers)
    finally:
        for handler, stream in handlers.items():
            handler.setStream(stream)
