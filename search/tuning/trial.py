"""One trial: trains a model and yields a report after each epoch. Uses neither Ray nor Optuna.

The metrics of an epoch are a function of (hyperparameters, seed, data, epoch): a trial that was
interrupted and resumed reports the same metrics as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.errors import CheckpointError, TrialError
from celltune.search.config.space import model_and_training
from celltune.search.errors import StorageError
from celltune.search.objective import objective_metric
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.types import EpochReport, ParameterValue

if TYPE_CHECKING:
    from celltune.models.training.trainer import Trainer


@dataclass(frozen=True)
class TrialTask:
    """Everything that a worker needs to train a trial, except the data."""

    number: int
    params: Mapping[str, ParameterValue]
    seed: int
    """The experiment's seed."""
    checkpoints: Checkpoints
    """The store of the trial's checkpoints."""
    restore_from: tuple[str, ...] = ()
    """Names of the checkpoints to continue from, in order of preference; empty for a new trial."""
    metrics: tuple[str, ...] = ()
    """Metrics that are reported in addition to those of the trainer."""
    device: str = "cpu"
    threads: int = 1
    """Number of torch threads."""
    memory_gb: float | None = None
    """Memory limit in GB (1e9 bytes); see `Resources.memory_per_trial_gb`."""


def checkpoint_name(epoch: int) -> str:
    """Return the folder name of the checkpoint after `epoch`."""
    return f"epoch-{epoch}"


def trial_seed(experiment_seed: int, number: int) -> int:
    """Return the seed (32 bits) of a trial's weights, batches and dropout."""
    return int(np.random.SeedSequence([experiment_seed, number]).generate_state(1)[0])


def make_trainer(
    params: Mapping[str, ParameterValue], data: PreparedData, *, seed: int, device: str
) -> Trainer:
    """Create the trainer of a trial's untrained model.

    Args:
        params: all active hyperparameters.
        data: training and validation split.
        seed: seed of the initial weights, the order of batches, and dropout.
        device: a torch device name.

    Raises:
        DataError: the data cannot be used with these hyperparameters.
    """
    # Importing torch takes seconds, and a worker may be stopped before it trains.
    from celltune.models.training.trainer import Trainer

    model, training = model_and_training(params)
    if data.vectors is not None and "embedding_size" not in params:
        model = model.model_copy(update={"embedding_size": data.vectors.shape[1]})
    return Trainer(model, training, data, seed=seed, device=device)


def run_trial(task: TrialTask, data: PreparedData) -> Iterator[EpochReport]:
    """Train without end, one epoch per iteration; to stop, abandon the iterator.

    Args:
        task: the trial, and where to continue.
        data: training and validation split.

    Raises:
        TrialError: the trial cannot continue, for example because its loss is not finite.
        StorageError: a checkpoint cannot be read or written.
    """
    seed = trial_seed(task.seed, task.number)
    trainer = make_trainer(task.params, data, seed=seed, device=task.device)
    warnings = _restore(trainer, task)
    while True:
        metrics = train_epoch(trainer, task.metrics)
        metrics["parameters"] = float(trainer.parameters)
        yield EpochReport(trainer.epoch, metrics, _save(trainer, task), warnings)
        warnings = ()


def train_epoch(trainer: Trainer, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Train for an epoch and return the trainer's metrics and the requested ones.

    Args:
        trainer: the trainer.
        metrics: names of metrics in `METRICS`. Those that the trainer does not report are computed
            from the predictions for the validation split, which are collected only then.

    Raises:
        TrialError: a loss or a metric is not finite.
    """
    from celltune.models.training.trainer import EpochMetrics, Predictions

    missing = [name for name in metrics if name not in EpochMetrics.__dataclass_fields__]
    predictions = Predictions() if missing else None
    epoch = asdict(trainer.run_epoch(predictions))
    values = {name: float(value) for name, value in epoch.items() if name != "epoch"}
    if predictions is not None:
        labels, log_probabilities = predictions.arrays()
        for name in missing:
            values[name] = float(objective_metric(name).compute(labels, log_probabilities))
            if not math.isfinite(values[name]):
                raise TrialError(
                    f"The metric {name} is {values[name]} after epoch {trainer.epoch}. It must be "
                    "a finite number: fix the package that defines it, or use another metric."
                )
    return values


def _save(trainer: Trainer, task: TrialTask) -> str:
    name = checkpoint_name(trainer.epoch)
    try:
        task.checkpoints.save(trainer.state(), name)
    except OSError as error:
        raise _storage_error(task, "write", name, error) from error
    return name


def _restore(trainer: Trainer, task: TrialTask) -> tuple[str, ...]:
    """Load the first usable checkpoint; return a warning for each one that is not."""
    warnings: list[str] = []
    for name in task.restore_from:
        try:
            trainer.load_state(*task.checkpoints.load(name))
        except CheckpointError as error:
            warnings.append(
                f"Trial {task.number} skips the checkpoint {name}. {error}{_set_aside(task, name)} "
                "The trial continues from an older checkpoint, or from the start if there is none."
            )
        except OSError as error:
            raise _storage_error(task, "read", name, error) from error
        else:
            break
    return tuple(warnings)


def _set_aside(task: TrialTask, name: str) -> str:
    """Keep an unusable checkpoint under another name; return a sentence that says where."""
    try:
        return f" The checkpoint is kept as {task.checkpoints.set_aside(name)}."
    except OSError:
        return ""


def _storage_error(task: TrialTask, action: str, name: str, error: OSError) -> StorageError:
    return StorageError(
        f"Trial {task.number} cannot {action} its checkpoint {task.checkpoints.location(name)}: "
        f"{error.strerror}. Recorded epochs are safe, and no trial has failed. Fix the storage, "
        "then resume the search."
    )
