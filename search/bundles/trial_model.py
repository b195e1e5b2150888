"""The trained model of a trial, loaded from its experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.text.encoder import TextRules
from celltune.data_prep.types import Progress
from celltune.models.config import ModelConfig
from celltune.models.errors import CheckpointError
from celltune.models.network.trained import load_classifier
from celltune.printable import quoted
from celltune.search.baselines.comparison import Comparison, compare_trial
from celltune.search.config.schema import SearchConfig
from celltune.search.decisions import Decision
from celltune.search.errors import ModelError
from celltune.search.ledger.evaluations import BaselineReported, EvaluationReported
from celltune.search.ledger.events import (
    BaselineValidated,
    EpochReported,
    ExperimentCreated,
)
from celltune.search.ledger.state import ExperimentState, TrialRecord, beats_majority
from celltune.search.storage.base import Experiment
from celltune.search.storage.prepared_data import load_prepared
from celltune.search.tuning.trial import check_origin, trial_seed
from celltune.search.wording import counted, metric_text

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.classifier import TextClassifier


@dataclass(frozen=True)
class TrialModel:
    """A trial's model after its best epoch, and what the experiment recorded about it.

    The vocabulary and the class names are part of the prepared data; see `load_data`.
    """

    experiment: str
    """Name of the experiment."""
    config: SearchConfig
    """Config of the experiment, with the budget in force."""
    trial: TrialRecord
    epoch: EpochReported
    """The trial's best epoch by the experiment's metric."""
    evaluations: tuple[EvaluationReported, ...]
    """Evaluations of the trial's hyperparameters on the test split."""
    baselines: tuple[BaselineReported, ...]
    """Evaluations of baselines on the same test split, the latest for each training data."""
    validated: tuple[BaselineValidated, ...]
    """Baselines on the validation split, in the order of their measurement."""
    comparison: Comparison | None
    """Comparison of `epoch` with the best linear model; None if there is none."""
    beats_wide: bool | None
    """Whether the trial improves on the wide part alone by more than noise; None if the search has
    no such trial, or this is it."""
    created: ExperimentCreated | None
    """The event that contains the majority class; None if the ledger begins without it."""
    architecture: ModelConfig
    """Architecture of the model."""
    sizes: tuple[int, int]
    """Number of ids of the vocabulary, and number of classes."""
    classifier: TextClassifier | None
    """Classifier with the weights of `epoch`, in evaluation mode; None for the wide part alone."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the prepared data that the trial was trained on; empty if unknown."""
        return self.created.fingerprint if self.created else ""

    @property
    def beats_majority(self) -> bool | None:
        """Whether it is better than always predicting one class (see `ExperimentState`).

        None if the ledger does not contain the majority class.
        """
        return beats_majority(self.created, self.epoch, self.config.metric)

    @property
    def decision(self) -> Decision:
        """How the log-probabilities become probabilities and predicted classes.

        Raises:
            ModelError: the ledger has a threshold, and the model more than two classes.
        """
        return checked_decision(self.epoch.metrics, self.sizes[1], self.experiment)

    @property
    def text_rules(self) -> TextRules:
        """Rules by which the texts of the data were converted to word ids."""
        return TextRules.of(self.config.data)


def load_trial_model(experiment: Experiment, number: int | None) -> TrialModel:
    """Load the weights of a trial's best epoch.

    Args:
        experiment: the experiment.
        number: number of the trial; None: the best trial.

    Raises:
        InputError: there is no such trial, it has no finished epoch, or its checkpoint is missing
            or damaged.
    """
    snapshot = experiment.snapshot(check_running=False)
    config, state = snapshot.config, snapshot.state
    trial = _select_trial(experiment.name, config, state, number)
    epoch = trial.best(config.metric)
    if epoch is None:
        raise ModelError(
            f"Trial {trial.number} of '{experiment.name}' has no finished epoch "
            f"({trial.error or trial.status}), so it has no model. {_best_trial(config, state)}"
        )
    tensors, meta = _read_checkpoint(experiment, config.seed, trial, epoch)
    try:
        architecture = ModelConfig.model_validate(meta.get("model"))
        sizes = _size(meta, "vocabulary_size"), _size(meta, "num_classes")
        has_network = architecture.wide != "only"
        classifier = load_classifier(architecture, *sizes, tensors) if has_network else None
    except (ValueError, KeyError, TypeError) as error:
        raise _incompatible(experiment.name, trial, epoch, str(error)) from error
    evaluations = tuple(
        event
        for event in state.evaluations
        if isinstance(event, EvaluationReported) and event.number == trial.number
    )
    return TrialModel(
        experiment=experiment.name,
        config=config,
        trial=trial,
        epoch=epoch,
        evaluations=evaluations,
        baselines=tuple({(event.name, event.on): event for event in state.baselines}.values()),
        validated=tuple(state.validated.values()),
        comparison=compare_trial(state, trial, config.metric),
        beats_wide=state.beats_wide(trial, config.metric),
        created=state.created,
        architecture=architecture,
        sizes=sizes,
        classifier=classifier,
    )


def checked_decision(metrics: Mapping[str, float], classes: int, experiment: str) -> Decision:
    """Return the decision that metrics in a ledger contain.

    Args:
        metrics: of an epoch, or what was fitted to an ensemble.
        classes: number of classes of the model.
        experiment: name of the experiment, for the message.

    Raises:
        ModelError: it has a threshold, which decides between two classes, and there are more.
    """
    decision = Decision.of(metrics)
    if decision.threshold is not None and classes != 2:
        raise ModelError(
            f"The ledger of '{experiment}' contains a threshold of {decision.threshold:g}, but the "
            f"model has {classes} classes. Restore the ledger from a copy."
        )
    return decision


def load_data(model: TrialModel, progress: Progress | None = None) -> PreparedData:
    """Load the prepared data that a trial was trained on.

    It is read from the cache, or prepared again if the cache does not contain them.

    Args:
        model: the trial's model.
        progress: called while the data is prepared again.

    Raises:
        InputError: the original data is not available, or does not match the model.
    """
    data = load_prepared(model.experiment, model.config.data, model.fingerprint, progress)
    sizes, expected = (data.vocabulary_size, data.num_classes), model.sizes
    if sizes != expected:
        raise DataError(
            f"The model has {expected[0]:,} words and {counted(expected[1], 'class', 'classes')}, "
            f"but the data has {sizes[0]:,} and {sizes[1]:,}. Restore the original data."
        )
    return data


def _select_trial(
    experiment: str, config: SearchConfig, state: ExperimentState, number: int | None
) -> TrialRecord:
    if number is None:
        ranked = state.ranked(config.metric)
        if not ranked:
            raise ModelError(
                f"No trial of '{experiment}' has finished an epoch yet, so there is no model. Wait "
                "for the search to finish an epoch, or resume it."
            )
        return ranked[0]
    count = len(state.trials)
    if not 0 <= number < count:
        numbers = f"the trials 0 to {count - 1}" if count else "no trials"
        raise ModelError(
            f"`trial` is {number}, but '{experiment}' has {numbers}. {_best_trial(config, state)}"
        )
    return state.trials[number]


def _best_trial(config: SearchConfig, state: ExperimentState) -> str:
    ranked = state.ranked(config.metric)
    if not ranked:
        return "No trial has finished an epoch yet."
    value = metric_text(config.metric, ranked[0].best_value(config.metric))
    return f"The best trial is {ranked[0].number}, with {config.metric} {value}."


def _read_checkpoint(
    experiment: Experiment, seed: int, trial: TrialRecord, epoch: EpochReported
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights, by the names of the classifier's parameters, and the metadata."""
    subject = f"trial {trial.number} of '{experiment.name}'"
    if epoch.checkpoint is None:
        raise ModelError(
            f"Epoch {epoch.epoch} of {subject} was recorded without a checkpoint. Choose another "
            "`trial`."
        )
    try:
        tensors, meta = experiment.checkpoints(trial.number).load(epoch.checkpoint)
        own_seed = trial_seed(seed, trial.number)
        check_origin(meta, trial.params, seed=own_seed, epoch=epoch.epoch)
    except CheckpointError as error:
        raise ModelError(
            f"The model of {subject} cannot be loaded: {error} If the search is running, a better "
            "epoch may have replaced this checkpoint; try again. Otherwise choose another `trial`."
        ) from error
    except OSError as error:
        raise ModelError(
            f"The checkpoint of {subject} cannot be read: {error.strerror}."
        ) from error
    prefix = "model."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return weights, dict(meta)


def _size(meta: Mapping[str, Any], key: str) -> int:
    value = meta.get(key)
    if type(value) is not int or value < 1:
        raise ValueError(f"its {key} is {quoted(value)}")
    return value


def _incompatible(
    experiment: str, trial: TrialRecord, epoch: EpochReported, reason: str
) -> ModelError:
    return ModelError(
        f"The checkpoint of epoch {epoch.epoch} of trial {trial.number} of '{experiment}' does not "
        f"match its data or this version of celltune: {reason.rstrip('.')}."
    )
