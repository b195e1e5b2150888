"""An experiment as an Optuna study: for reports, and for Optuna's own tools.

The study is `search.sampler`'s, so it says what the sampler was told: an epoch's value is an
intermediate value, a trial that used its epochs is COMPLETE with its best value, one that ASHA
stopped is PRUNED, one that broke is FAIL, and one that still has epochs to train is RUNNING.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import OptionError
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.results.ranking import training_seconds, why_stopped
from celltune.search.tuning.tpe import TPESampler


def mirror_study(config: SearchConfig, state: ExperimentState) -> optuna.Study:
    """Give the study that mirrors a ledger, in memory."""
    tpe = TPESampler(
        config.space,
        metric=config.metric,
        seed=config.seed,
        startup_trials=config.sampler.startup_trials,
    )
    tpe.replay(state)
    return tpe.study


def copy_to_storage(
    config: SearchConfig,
    state: ExperimentState,
    storage: str,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> optuna.Study:
    """Copy an experiment into an Optuna storage, as a study of its own; all of it or nothing.

    Beside Optuna's own fields a trial carries its measures, its seconds and why it stopped, as user
    attributes. Optuna takes some 30 ms a trial to write into SQLite.

    Args:
        config: of the experiment.
        state: of the experiment.
        storage: an Optuna storage, such as ``sqlite:///study.db``.
        name: of the study.
        progress: is told how many trials of how many are copied.

    Raises:
        OptionError: the storage can't be used, or holds a study of this name.
    """
    mirrored = mirror_study(config, state)
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, direction=mirrored.direction, load_if_exists=False
        )
    except optuna.exceptions.DuplicatedStudyError as error:
        raise OptionError(
            f"{_shown(storage)} holds a study '{name}' already; nothing was changed. Choose "
            "another --study-name, or another --storage."
        ) from error
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise OptionError(
            f"The storage '{_shown(storage)}' can't be used: {reason}. It must be one that "
            "Optuna knows, such as sqlite:///study.db, in a folder that exists."
        ) from error
    try:
        _describe(study, config, state)
        for trial, record in zip(mirrored.get_trials(deepcopy=True), state.trials, strict=True):
            study.add_trial(_told(trial, record, config))
            progress(record.number + 1, len(state.trials))
    except BaseException:
        optuna.delete_study(study_name=name, storage=study._storage)
        raise
    return study


def _shown(storage: str) -> str:
    """A storage's URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:...@", storage)


def _describe(study: optuna.Study, config: SearchConfig, state: ExperimentState) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([config.metric])
    study.set_user_attr("seed", config.seed)
    study.set_user_attr("fixed", dict(config.space.fixed))
    if state.created is not None:
        study.set_user_attr("fingerprint", state.created.fingerprint)
    if state.run is not None:
        study.set_user_attr("versions", {"celltune": state.run.celltune, **state.run.versions})


def _told(trial: FrozenTrial, record: TrialRecord, config: SearchConfig) -> FrozenTrial:
    """Add what Optuna doesn't ask for, and the times of the ledger."""
    best = record.best(config.metric)
    measures: dict[str, Any] = dict(best.metrics) if best else {}
    told = ("valid_accuracy", "valid_loss", "train_accuracy", "parameters")
    attributes = {
        "epochs": record.epochs_done,
        **{key: measures.get(key) for key in told},
        "seconds": round(training_seconds(record.epochs), 3),
        "stopped": why_stopped(record, running=False),
        "error": record.error or None,
    }
    trial.user_attrs = {key: value for key, value in attributes.items() if value is not None}
    trial.datetime_start = datetime.fromtimestamp(record.created_at)  # Optuna's are naive
    if trial.datetime_complete is not None:
        last = record.epochs[-1].at if record.epochs else record.created_at
        trial.datetime_complete = datetime.fromtimestamp(last)
    return trial
