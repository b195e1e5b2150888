"""One trial: parameters + data + checkpoints -> epochs of metrics. Pure: no Ray, no Optuna.

A trial's numbers are a function of (parameters, seed, data, epoch): one that was cut and resumed
reports what the uncut one would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.errors import CheckpointError
from celltune.search.config.space import split
from celltune.search.errors import StorageError
from celltune.search.storage.checkpoints import Checkpoints
from celltune.search.types import EpochReport, ParameterValue

if TYPE_CHECKING:
    from celltune.models.training.trainer import Trainer


@dataclass(frozen=True)
class TrialTask:
    """What a worker needs to know to run a trial."""

    number: int
    params: Mapping[str, ParameterValue]
    seed: int
    """The experiment's seed."""
    checkpoints: Checkpoints
    """The store of the trial's checkpoints."""
    restore_from: tuple[str, ...] = ()
    """Names of the checkpoints to continue from, in order of preference; empty for a new trial."""
    device: str = "cpu"
    threads: int = 1
    """Of torch."""
    memory_gb: float | None = None
    """See `Resources.memory_per_trial_gb`."""


def checkpoint_name(epoch: int) -> str:
    """Name the folder of the checkpoint after `epoch`."""
    return f"epoch-{epoch}"


def trial_seed(experiment_seed: int, number: int) -> int:
    """Give the seed of a trial's weights, batches and dropout: 32 bits."""
    return int(np.random.SeedSequence([experiment_seed, number]).generate_state(1)[0])


def make_trainer(
    params: Mapping[str, ParameterValue], data: PreparedData, *, seed: int, device: str
) -> Trainer:
    """Build what a trial's parameters describe, untrained.

    Args:
        params: every hyperparameter that is active.
        data: training and validation reviews.
        seed: decides starting values, the order of batches, and dropout.
        device: a torch device name.

    Raises:
        DataError: the data can't be used with these parameters.
    """
    # torch takes seconds to import, and a worker may be given up before it trains.
    from celltune.models.training.trainer import Trainer

    model, training = split(params)
    if data.vectors is not None and "embedding_size" not in params:
        model = model.model_copy(update={"embedding_size": data.vectors.shape[1]})
    return Trainer(
        model,
        training,
        train=data.train,
        valid=data.valid,
        vocabulary_size=data.vocabulary_size,
        num_classes=data.num_classes,
        seed=seed,
        device=device,
        vectors=data.vectors,
        vectors_tuned=data.vectors_tuned,
    )


def run_trial(task: TrialTask, data: PreparedData) -> Iterator[EpochReport]:
    """Train without end, one epoch an item; the caller stops it by not asking on.

    Args:
        task: what to train, and from where on.
        data: training and validation reviews.

    Raises:
        TrialError: the trial can't go on, for example because its loss is no number.
        StorageError: a checkpoint can't be written, or the storage not be reached.
    """
    seed = trial_seed(task.seed, task.number)
    trainer = make_trainer(task.params, data, seed=seed, device=task.device)
    warnings = _restore(trainer, task)
    while True:
        metrics = {
            name: float(value)
            for name, value in asdict(trainer.run_epoch()).items()
            if name != "epoch"
        }
        metrics["parameters"] = float(trainer.parameters)
        yield EpochReport(trainer.epoch, metrics, _save(trainer, task), warnings)
        warnings = ()


def _save(trainer: Trainer, task: TrialTask) -> str:
    name = checkpoint_name(trainer.epoch)
    try:
        task.checkpoints.save(trainer.state(), name)
    except OSError as error:
        raise _out_of_reach(task, "write", name, error) from error
    return name


def _restore(trainer: Trainer, task: TrialTask) -> tuple[str, ...]:
    """Go on from the best whole checkpoint; gives a warning for each that wasn't."""
    warnings: list[str] = []
    for name in task.restore_from:
        try:
            trainer.load_state(*task.checkpoints.load(name))
        except CheckpointError as error:
            kept = _set_aside(task, name)
            warnings.append(f"Trial {task.number} goes back one checkpoint: {error}{kept}")
        except OSError as error:
            raise _out_of_reach(task, "read", name, error) from error
        else:
            break
    return tuple(warnings)


def _set_aside(task: TrialTask, name: str) -> str:
    try:
        return f" It is kept to be looked at, in {task.checkpoints.set_aside(name)}."
    except OSError:
        return ""


def _out_of_reach(task: TrialTask, what: str, name: str, error: OSError) -> StorageError:
    return StorageError(
        f"Trial {task.number} can't {what} its checkpoint {task.checkpoints.location(name)}: "
        f"{error.strerror}. What was acknowledged is safe and no trial is counted as failed; "
        "mend the storage, then resume."
    )
