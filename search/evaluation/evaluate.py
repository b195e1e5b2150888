"""The final word on a search: its leaders, trained from scratch and measured on the test split.

Ray, torch and scikit-learn are imported only once something is really measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from celltune.search.config.schema import SearchConfig
from celltune.search.evaluation import baselines as linear
from celltune.search.evaluation.checkpoints import remove_used_checkpoints
from celltune.search.evaluation.summaries import leaders
from celltune.search.ledger.events import EvaluationReported
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.runs.session import check_same_data, config_for_run, connected_cluster
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
    from celltune.data_prep.sources.base import Document
    from celltune.search.cluster.task_pool import Job
    from celltune.search.evaluation.evaluator import Evaluator
    from celltune.search.types import TrainingSplits


@dataclass(frozen=True)
class Plan:
    """What of an evaluation is still to be done."""

    on: TrainingSplits
    pairs: Sequence[tuple[TrialRecord, int]]
    """Trials with the seeds that they are retrained with."""
    baselines: Sequence[str]

    def __len__(self) -> int:
        """How many models are to be measured."""
        return len(self.pairs) + len(self.baselines)


def plan(
    state: ExperimentState,
    config: SearchConfig,
    *,
    top: int,
    seeds: int,
    on: TrainingSplits,
    baselines: bool,
) -> Plan:
    """Say what is to be done; what the ledger holds isn't done again.

    Raises:
        ExperimentError: no trial has finished.
    """
    done = {
        (e.number, e.seed, e.on) for e in state.evaluations if isinstance(e, EvaluationReported)
    }
    wanted = [
        (trial, seed)
        for trial in leaders(state, config.metric, top)
        for seed in range(1, seeds + 1)
    ]
    fitted = {(event.name, event.on) for event in state.baselines}
    names = [name for name in linear.BASELINES if baselines and (name, on) not in fitted]
    return Plan(on, [pair for pair in wanted if (pair[0].number, pair[1], on) not in done], names)


def evaluate(
    name: str,
    *,
    top: int = 3,
    seeds: int = 5,
    on: TrainingSplits = "train",
    baselines: bool = True,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: View | None = None,
    clock: Callable[[], float] = time.time,
) -> ExperimentState:
    """Retrain the leaders of a search with several seeds, and read the test split for each once.

    On train a retraining takes as many epochs as its trial could have had, and validation chooses
    the one that is measured. On train+valid it takes as many as were best on validation in the
    search. What was measured is in the ledger; given again after any death, the same call does
    what is left.

    Args:
        name: of the experiment.
        top: how many of the best trials.
        seeds: retrainings of each, with the seeds 1, 2, ...
        on: what they learn from: train, or train+valid.
        baselines: whether linear models over word counts are measured beside them.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        address: of a running Ray cluster; None: a local one is started.
        overrides: `key.path=value` each, for this run, as of a resume: such as where data is.
        view: shows what happens; None: nothing is shown.
        clock: seconds since 1970.

    Returns:
        The experiment's state, for `search.evaluation.summaries`.

    Raises:
        InputError: there is no such experiment, no finished trial or no test part, another
            process runs it, or its data changed.
        KeyboardInterrupt: it was asked to stop, at the terminal or by ``celltune stop``.
    """
    view = view or SilentView()
    folder = find_experiment(name, storage)
    with folder.locked():
        folder.clear_stop()
        config, state = config_for_run(folder, overrides), folder.state()
        todo = plan(state, config, top=top, seeds=seeds, on=on, baselines=baselines)
        remove_used_checkpoints(folder, state)
        if not len(todo):
            return state
        if todo.baselines:
            linear.check_installed()
        data, test = _prepared(folder, config, state, view)
        with (
            connected_cluster(config.resources, folder.storage, address, view) as slots,
            folder.open_ledger() as ledger,
        ):
            run = _Run(folder, config, ledger, slots, view, clock)
            return _carry_out(run, todo, data, test)


def _prepared(
    folder: Experiment, config: SearchConfig, state: ExperimentState, view: View
) -> tuple[PreparedData, PreparedTest]:
    from celltune.data_prep.preparation import pipeline

    test = pipeline.prepare_test(config.data, progress=view.progress)
    data = pipeline.prepare(config.data, progress=view.progress)
    check_same_data(folder, state, data)
    return data, test


@dataclass(frozen=True)
class _Run:
    """An evaluation whose experiment is locked and whose cluster is connected."""

    folder: Experiment
    config: SearchConfig
    ledger: Ledger
    slots: int
    """Number of models that are trained at the same time."""
    view: View
    clock: Callable[[], float]


def _carry_out(run: _Run, todo: Plan, data: PreparedData, test: PreparedTest) -> ExperimentState:
    from celltune.search.cluster.task_pool import run_jobs
    from celltune.search.evaluation.evaluator import Evaluator

    done, view = 0, run.view

    def tell(line: str) -> None:
        nonlocal done
        done += 1
        view.message(line)
        view.progress("models measured", done, len(todo))

    view.stage(f"Measuring {len(todo)} models on {len(test.split):,} test reviews")
    view.progress("models measured", 0, len(todo))
    bench = Evaluator(run.folder, run.config, run.ledger, data, test, clock=run.clock, tell=tell)
    with closing(_jobs(todo, bench, run.config, view)) as jobs, stop_signals() as signalled:
        run_jobs(jobs, run.slots, StopRequests([run.folder], signalled, None, view))
    return bench.state


def _jobs(
    todo: Plan, bench: Evaluator, config: SearchConfig, view: View
) -> Generator[Job, None, None]:
    """Baselines first: they are done soon, and tell what is to be beaten."""
    yield from _baseline_jobs(todo, bench, config, view)
    for trial, seed in todo.pairs:
        best = trial.best(config.metric)
        if todo.on == "train+valid" and best is not None:
            yield bench.retraining(trial, seed, todo.on, best.epoch, keep="last")
        else:
            yield bench.retraining(trial, seed, todo.on, trial.max_epochs, keep="best")


def _baseline_jobs(todo: Plan, bench: Evaluator, config: SearchConfig, view: View) -> Iterator[Job]:
    if not todo.baselines:
        return
    from celltune.data_prep.preparation import pipeline
    from celltune.search.cluster.task_pool import put

    chosen = pipeline.read_documents(config.data, progress=view.progress)
    rows = [*chosen.train, *(chosen.valid if todo.on == "train+valid" else ())]
    train, test = put(_labelled(rows)), put(_labelled(chosen.test))
    for name in todo.baselines:
        yield bench.baseline(name, todo.on, train, test)


def _labelled(rows: Sequence[Document]) -> linear.Labelled:
    return linear.Labelled([row.text for row in rows], np.array([row.label for row in rows]))
