"""Estimate of the duration and the memory of a search, from short trainings on this machine.

Some of the first trials of the search are trained on a part of the data, as many at the same time
as the search would. Their costs, and simulated searches with the early-stopping rule of the config,
give the duration. No cluster is used.
"""

from __future__ import annotations

import heapq
import math
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from celltune.search.config.schema import Resources, SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import View
from celltune.search.setup.durations import START
from celltune.search.setup.inspection import this_machine
from celltune.search.tuning.base import make_rule, make_sampler
from celltune.search.tuning.first_trials import given_by_config
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import ParameterValue, is_wide_only

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData
    from celltune.search.runs.measurement import Measured

LEAST_MEASURED, MOST_MEASURED = 4, 16
"""Numbers of trials that are trained for an estimate."""
SIMULATIONS = 40
"""Number of searches that are simulated for an estimate."""

Params = Mapping[str, ParameterValue]


class Range(NamedTuple):
    """A number that varies."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a search on this machine."""

    trials: int
    """Number of trials, unless the search ends earlier."""
    workers: int
    """Number of trials that are trained at the same time."""
    seconds: Range
    """Duration, with a tenth of the simulated searches below and above the bounds."""
    epochs: float
    """Mean number of epochs of a trial."""
    epoch_seconds: Range
    """Duration of an epoch of the fastest and the slowest measured trial, and the mean."""
    worker_bytes: int
    """Largest memory of a worker, without the data; 0 if the system does not tell it."""
    data_bytes: int
    """Size of the data, which the workers share."""
    measured: int
    """Number of measured trials."""
    documents: int
    """Smallest number of training documents of a measurement."""
    train_documents: int
    """Number of all training documents."""
    limited: bool
    """Whether `budget.time` is shorter than the search."""


def estimate(config: SearchConfig, view: View) -> Estimate:
    """Prepare the data, which a launch then finds in the cache, and train some trials briefly.

    Args:
        config: a complete config (see `session.resolve_for_run`).
        view: shows the progress.

    Raises:
        ConfigError: trials need a GPU, or more CPUs than this machine has.
        DataError: the data is invalid.
        TrialError: a trial cannot be trained.
    """
    workers = worker_count(config.resources, this_machine().cores)
    from celltune.data_prep.preparation.pipeline import prepare

    data = prepare(config.data, progress=view.progress)
    trials = _first_networks(config, max(LEAST_MEASURED, workers))
    workers = min(workers, planned_trials(config, ExperimentState()))
    measured = _measure(config, data, trials, workers, view)
    costs = [cost.epoch_seconds for cost in measured]
    searches = [simulate(config, costs, workers, number) for number in range(SIMULATIONS)]
    # The start, which is work of the CPUs as well, takes longer if other programs use them.
    start = START * fmean(each.slowdown for each in measured)
    seconds = sorted(start + search.seconds for search in searches)
    limit = config.budget.time or math.inf
    tenth = SIMULATIONS // 10
    return Estimate(
        trials=planned_trials(config, ExperimentState()),
        workers=workers,
        seconds=Range(
            *(min(limit, each) for each in (seconds[tenth], fmean(seconds), seconds[-tenth - 1]))
        ),
        epochs=fmean(search.epochs for search in searches),
        epoch_seconds=Range(min(costs), fmean(costs), max(costs)),
        worker_bytes=max(each.peak_bytes for each in measured),
        data_bytes=data.nbytes,
        measured=len(measured),
        documents=min(each.documents for each in measured),
        train_documents=len(data.train),
        limited=limit < fmean(seconds),
    )


def worker_count(resources: Resources, cores: int) -> int:
    """Return how many workers train at the same time on this machine.

    Args:
        resources: of the trials.
        cores: number of CPUs that this process can use.

    Raises:
        ConfigError: trials need a GPU, or more CPUs than there are.
    """
    if resources.gpus_per_trial > 0:
        raise ConfigError(
            f"resources.gpus_per_trial is {resources.gpus_per_trial:g}, but an estimate trains on "
            "CPUs only. Set it to 0 to estimate the duration without GPUs, or launch the search "
            "with a budget.time."
        )
    workers = int(cores / resources.cpus_per_trial + 1e-9)
    if workers < 1:
        raise ConfigError(
            f"resources.cpus_per_trial is {resources.cpus_per_trial:g}, but this machine has "
            f"{cores}. Set it to at most {cores}."
        )
    if resources.concurrent_trials is None:
        return workers
    return min(workers, max(1, resources.concurrent_trials // resources.trials_per_worker))


def _first_networks(config: SearchConfig, count: int) -> list[Params]:
    """Return the hyperparameters of the first trials that are trained, as the search proposes them.

    Args:
        config: the config.
        count: largest number of trials; at least one of them is returned.
    """
    state = ExperimentState()
    sampler = make_sampler(config)
    sampler.replay(state)
    planned = planned_trials(config, state)
    proposed: list[Params] = []
    for number in range(planned):
        first = given_by_config(config, number)
        params = sampler.propose(number) if first is None else sampler.propose_given(number, first)
        if not is_wide_only(params):
            proposed.append(params)
        if len(proposed) == min(count, MOST_MEASURED):
            break
    return proposed


def _measure(
    config: SearchConfig, data: PreparedData, trials: Sequence[Params], workers: int, view: View
) -> list[Measured]:
    """Train trials in processes of their own, as many at the same time as workers."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(workers, len(trials)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(Path.cwd(), data.fingerprint, max(1, int(config.resources.cpus_per_trial))),
    )
    with tempfile.TemporaryDirectory(prefix="celltune-") as folder:
        try:
            arguments = [
                (params, config.seed, config.reported_metrics, _new_folder(folder, number))
                for number, params in enumerate(trials)
            ]
            view.progress("trial", 0, len(trials))
            measured: list[Measured] = []
            with _starting_processes(_new_folder(folder, "start")):
                costs = pool.map(_measure_trial, *zip(*arguments, strict=True))
            for cost in costs:
                measured.append(cost)
                view.progress("trial", len(measured), len(trials))
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return measured


@contextmanager
def _starting_processes(folder: Path) -> Iterator[None]:
    """Change, for a moment, what new processes inherit.

    They start in an empty folder: until multiprocessing gives them the import path of this process,
    Python imports from the working directory, where data of others may be (decision 52). They
    ignore a Ctrl-C, which ends this process, and it ends them.
    """
    before = os.open(".", os.O_RDONLY)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        if is_main:
            signal.signal(signal.SIGINT, handler)


def _new_folder(parent: str, name: object) -> Path:
    folder = Path(parent) / str(name)
    folder.mkdir()
    return folder


_opened: dict[str, PreparedData] = {}
"""The data of a process that measures, by its fingerprint."""


def _start_process(working_directory: Path, fingerprint: str, threads: int) -> None:
    # Relative paths, such as that of the cache, start there.
    os.chdir(working_directory)
    import torch

    from celltune.data_prep.preparation.pipeline import find_prepared

    torch.set_num_threads(threads)
    data = find_prepared(fingerprint)
    if data is not None:
        _opened[fingerprint] = data


def _measure_trial(params: Params, seed: int, metrics: tuple[str, ...], folder: Path) -> Measured:
    from celltune.search.runs.measurement import measure

    (data,) = _opened.values()
    return measure(params, data, seed=seed, metrics=metrics, folder=folder)


class Simulated(NamedTuple):
    """A search without training."""

    seconds: float
    """Until the last trial ends, without the start."""
    epochs: float
    """Mean number of epochs of the trials that train a network."""


def simulate(config: SearchConfig, costs: Sequence[float], workers: int, seed: int) -> Simulated:
    """Simulate a search whose trials have random losses, in the order of the workers' reports.

    The early-stopping rule is that of the config. Limits that depend on results, such as a target
    or `epoch_patience`, are not simulated.

    Args:
        config: the config.
        costs: seconds of an epoch of measured trials; each trial has one of them at random.
        workers: number of trials that are trained at the same time.
        seed: of the random numbers.
    """
    import numpy as np

    rng = np.random.default_rng([config.seed, seed])
    rule = make_rule(config)
    planned = planned_trials(config, ExperimentState())
    values = rng.random(planned)
    seconds = rng.choice(costs, planned)
    networks = [
        not is_wide_only(given_by_config(config, number) or config.space.fixed)
        for number in range(planned)
    ]
    running: list[tuple[float, int, int]] = []
    now, started, epochs = 0.0, 0, 0
    while running or started < planned:
        while len(running) < workers and started < planned:
            if networks[started]:
                heapq.heappush(running, (now + float(seconds[started]), started, 1))
            started += 1
        if not running:
            break
        now, number, epoch = heapq.heappop(running)
        epochs += 1
        metrics = dict.fromkeys(config.reported_metrics, float(values[number]))
        continues = rule is None or rule.take(number, epoch, metrics)
        if continues and epoch < config.budget.max_epochs:
            heapq.heappush(running, (now + float(seconds[number]), number, epoch + 1))
    return Simulated(now, epochs / max(1, sum(networks)))
