"""Export of an experiment as an Optuna study, for Optuna's own tools.

The value of each epoch is an intermediate value. Completed trials are COMPLETE with their best
value, pruned trials are PRUNED, failed trials are FAIL and unfinished trials are RUNNING.
"""

from __future__ import annotations

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
from celltune.search.results.ranking import pruned_by, training_seconds, why_stopped
from celltune.search.tuning.study_mirror import StudyMirror
from celltune.search.uris import without_secrets


def mirror_study(config: SearchConfig, state: ExperimentState) -> optuna.Study:
    """Return an in-memory study with the trials of a ledger."""
    mirror = StudyMirror(config.space, config.metric)
    mirror.replay(state)
    return mirror.study


def copy_to_storage(
    config: SearchConfig,
    state: ExperimentState,
    study_storage: str,
    study_name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> optuna.Study:
    """Copy an experiment into a new study of an Optuna storage.

    The metrics, the training time and the reason why a trial stopped become user attributes of the
    trial. If the copy fails or is interrupted, the new study is deleted. Optuna needs about 30 ms
    to write a trial into SQLite.

    Args:
        config: the config of the experiment.
        state: the state of the experiment.
        study_storage: an Optuna storage, such as `sqlite:///study.db`.
        study_name: the name of the new study.
        progress: called with the number of copied trials and the number of all trials.

    Raises:
        OptionError: the storage cannot be used, or it contains a study with this name.
    """
    mirrored = mirror_study(config, state)
    try:
        study = optuna.create_study(
            storage=study_storage,
            study_name=study_name,
            direction=mirrored.direction,
            load_if_exists=False,
        )
    except optuna.exceptions.DuplicatedStudyError as error:
        raise OptionError(
            f"The storage {without_secrets(study_storage)} already contains a study "
            f"'{study_name}', which was not changed. Set another `study_name` or `study_storage`."
        ) from error
    # Optuna replaces fields in braces in the URL, which may be invalid in many ways.
    except (
        SQLAlchemyError,
        ImportError,
        ValueError,
        RuntimeError,
        LookupError,
        AttributeError,
    ) as error:
        reason = without_secrets(str(error).splitlines()[0].rstrip("."))
        raise OptionError(
            f"The Optuna storage '{without_secrets(study_storage)}' cannot be used: {reason}. "
            "Set `study_storage` to a URL that Optuna supports, such as sqlite:///study.db, in an "
            "existing folder."
        ) from error
    try:
        _add_attributes(study, config, state)
        for trial, record in zip(mirrored.get_trials(deepcopy=True), state.trials, strict=True):
            study.add_trial(_with_attributes(trial, record, config))
            progress(record.number + 1, len(state.trials))
    except BaseException:
        optuna.delete_study(study_name=study_name, storage=study._storage)
        raise
    return study


def _add_attributes(study: optuna.Study, config: SearchConfig, state: ExperimentState) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([config.metric])
    study.set_user_attr("seed", config.seed)
    study.set_user_attr("fixed", dict(config.space.fixed))
    if state.created is not None:
        study.set_user_attr("fingerprint", state.created.fingerprint)
    if state.run is not None:
        study.set_user_attr("versions", {"celltune": state.run.celltune, **state.run.versions})


def _with_attributes(trial: FrozenTrial, record: TrialRecord, config: SearchConfig) -> FrozenTrial:
    """Add the user attributes and the times from the ledger to a trial."""
    best = record.best(config.metric)
    best_metrics: dict[str, Any] = dict(best.metrics) if best else {}
    copied = dict.fromkeys(
        (config.metric, "valid_accuracy", "valid_loss", "train_accuracy", "parameters")
    )
    attributes = {
        "epochs": record.epochs_done,
        **{key: best_metrics.get(key) for key in copied},
        "seconds": round(training_seconds(record.epochs), 3),
        "stopped": why_stopped(record, running=False, pruned_by=pruned_by(config)),
        "error": record.error or None,
    }
    trial.user_attrs = {key: value for key, value in attributes.items() if value is not None}
    trial.datetime_start = datetime.fromtimestamp(record.created_at)  # Optuna uses naive times
    if trial.datetime_complete is not None:
        last = record.epochs[-1].at if record.epochs else record.created_at
        trial.datetime_complete = datetime.fromtimestamp(last)
    return trial
