"""What an epoch of a trial costs, measured by training on a part of the data.

A measurement runs in a process of its own, so that its memory is that of a worker. Several of them
run at the same time, as the workers of a search do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from celltune.data_prep.dataset.subsets import stratified_subset
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.tuning.trial import TrialTask, run_trial
from celltune.search.types import ParameterValue

ENOUGH_SECONDS = 1.5
"""Duration of an epoch from which it is measured precisely enough."""

_FIRST_DOCUMENTS = 400
"""Number of training documents with which the measurement starts."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Measured:
    """The cost of training one configuration."""

    epoch_seconds: float
    """Expected seconds of an epoch on all documents, with validation and checkpoint."""
    documents: int
    """Number of training documents of the measurement."""
    peak_bytes: int
    """Largest memory of the process without the data; 0 if the system does not tell it."""
    slowdown: float = 1.0
    """Duration of the training relative to its CPU time: above 1 if other programs also run."""


def measure(
    params: Mapping[str, ParameterValue],
    data: PreparedData,
    *,
    seed: int,
    metrics: tuple[str, ...],
    folder: Path,
) -> Measured:
    """Train a configuration for some seconds.

    The first epoch on a part of the data is not timed, because it compiles and allocates. If the
    second one is too short, a larger part is used.

    Args:
        params: all active hyperparameters.
        data: training and validation split.
        seed: the experiment's seed.
        metrics: metrics that are computed after each epoch.
        folder: an existing folder for the checkpoints.

    Raises:
        TrialError: the configuration cannot be trained, for example because its loss is not finite.
    """
    share = min(1.0, _FIRST_DOCUMENTS / len(data.train))
    number = 0
    while True:
        part = _part(data, share, seed)
        checkpoints = LocalCheckpoints(EnclosedPath(folder) / str(number) / "checkpoints")
        epochs = run_trial(TrialTask(number, params, seed, checkpoints, metrics=metrics), part)
        next(epochs)
        started, cpu = time.perf_counter(), time.process_time()
        trained = next(epochs).metrics["seconds"]
        fixed = max(0.0, time.perf_counter() - started - trained)
        cpu = time.process_time() - cpu
        if trained >= ENOUGH_SECONDS or share == 1:
            seconds = trained * _tokens(data) / _tokens(part) + fixed
            slowdown = max(1.0, trained / max(cpu, 1e-3))
            return Measured(seconds, len(part.train), _peak_bytes(data), slowdown)
        # At least doubled, so that the loop ends soon; a bit more than expected to suffice.
        share = min(1.0, share * max(2.0, 1.2 * ENOUGH_SECONDS / max(trained, 1e-3)))
        number += 1


def _part(data: PreparedData, share: float, seed: int) -> PreparedData:
    return replace(
        data,
        train=stratified_subset(data.train, share, seed),
        valid=stratified_subset(data.valid, share, seed),
    )


def _tokens(data: PreparedData) -> int:
    return data.train.tokens + data.valid.tokens


def _peak_bytes(data: PreparedData) -> int:
    """Return the largest memory of this process so far, without the data."""
    # `getrusage` would count the process that started this one.
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text("ascii", errors="replace").splitlines()
    peak = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return max(0, 1024 * int(peak.split()[1]) - data.nbytes)
