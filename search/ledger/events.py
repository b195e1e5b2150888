"""The events of an experiment, one per line of its ledger.

Events are immutable and do not refer to other lines. Later releases may add optional fields, but
never change the meaning of a field, so that they can read every older ledger.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
)

from celltune.search.ledger.causes import Cause
from celltune.search.ledger.ensembles import EnsembleMember, Gain, ValidScores, check_weights
from celltune.search.ledger.evaluations import (
    BaselineReported,
    EnsembleReported,
    EvaluationFailed,
    EvaluationReported,
    LedgerEvent,
    TestSplitRead,
)
from celltune.search.ledger.fields import (
    Amount,
    CheckpointName,
    Count,
    ExperimentName,
    Fingerprint,
    Loss,
    Metrics,
    Positive,
    Share,
)
from celltune.search.types import Finite, Metric, ParameterValue

SCHEMA_VERSION = 2
"""The format of new ledgers. 1: lines are not bound to their experiment."""


class ExperimentCreated(LedgerEvent):
    """The experiment was created; always the first event."""

    event: Literal["experiment_created"] = "experiment_created"
    schema_version: Annotated[int, Field(ge=1)] = 1
    experiment_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Random id of the experiment, to which the checksums of all later lines are bound; None in
    ledgers of older releases."""
    fingerprint: Fingerprint
    """Fingerprint of the prepared data. A resume with other data is rejected."""
    config: dict[str, Any] | None = None
    """The resolved config, with all defaults; None in ledgers of older releases."""
    config_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the config's file as it was written."""
    valid_reviews: Positive | None = None
    """Number of documents in the valid split; None in ledgers of older releases."""
    majority_class: str | None = None
    """Most frequent class of the train split; None in ledgers of older releases."""
    majority_accuracy: Share | None = None
    """Its share of the valid split: the accuracy of a model that always predicts it."""
    majority_scores: Metrics = Field(default_factory=dict)
    """Other metrics of the search, by name, for a model that knows only the class probabilities of
    the train split."""
    wide_accuracy: Share | None = None
    """Accuracy of the wide part alone on the valid split; None if the data has no wide part, and in
    ledgers of older releases."""

    def majority_score(self, metric: Metric) -> float | None:
        """Return a metric of always predicting the majority class; None if it is unknown."""
        if metric == "valid_accuracy":
            return self.majority_accuracy
        return self.majority_scores.get(metric)

    @field_validator("schema_version")
    @classmethod
    def _check_version(cls, version: int) -> int:
        if version > SCHEMA_VERSION:
            raise ValueError("a newer release of celltune wrote this ledger; install it")
        return version


class RunStarted(LedgerEvent):
    """A driver started to run the experiment, at launch or resume."""

    event: Literal["run_started"] = "run_started"
    resumed: bool
    """True for a resume, False for a launch."""
    celltune: str
    """Version of celltune."""
    host: str
    pid: Count
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python and of the libraries that affect the results, by name."""


class BaselineValidated(LedgerEvent):
    """A baseline was fitted to the training split and scored on the validation split."""

    event: Literal["baseline_validated"] = "baseline_validated"
    name: str
    valid_accuracy: Share
    valid_macro_f1: Share
    """Mean of the F1 scores of the classes that occur in the validation split."""
    valid_balanced_accuracy: Share | None = None
    """Mean recall of the classes that occur in the validation split; None in ledgers of older
    releases."""
    valid_auroc: Share | None = None
    """Area under the ROC curve; None with more than two classes, and in ledgers of older
    releases."""
    valid_loss: Loss | None = None
    """Mean cross-entropy (natural logarithm); None if the model gives no probabilities."""
    seconds: Amount
    """Time for counting n-grams and fitting."""

    def score(self, metric: Metric) -> float | None:
        """Return a metric of the validation split; None if it is unknown."""
        return getattr(self, metric, None) if metric.startswith("valid_") else None


class TrialCreated(LedgerEvent):
    """A trial was proposed. Trials are numbered from 0 in the order of the ledger."""

    event: Literal["trial_created"] = "trial_created"
    number: Count
    params: dict[str, ParameterValue]
    """Values of all hyperparameters that are active in this trial, sampled or fixed."""
    max_epochs: Positive
    """Number of epochs after which the trial is completed."""


class EpochReported(LedgerEvent):
    """A trial finished an epoch. Its checkpoint was saved before the event."""

    event: Literal["epoch_reported"] = "epoch_reported"
    number: Count
    epoch: Positive
    """Number of epochs trained so far, starting at 1."""
    metrics: Metrics
    checkpoint: CheckpointName | None
    """Name of the checkpoint within the trial's folder; None if none was saved."""


class TrialStopped(LedgerEvent):
    """A trial ended as planned: it trained all its epochs, or was stopped early (pruned)."""

    event: Literal["trial_stopped"] = "trial_stopped"
    number: Count
    reason: Literal["completed", "pruned"]


class TrialFailed(LedgerEvent):
    """A trial failed; the search continues."""

    event: Literal["trial_failed"] = "trial_failed"
    number: Count
    error: str
    """Description of the error in one sentence."""
    details: str = ""
    """Traceback; empty if there is none."""


class WorkerLost(LedgerEvent):
    """A trial lost its worker. It is unfinished and is retried from its newest checkpoint.

    The events of all trials of a worker have the same time, cause and error.
    """

    event: Literal["worker_lost"] = "worker_lost"
    number: Count
    error: str
    """Description of the error in one sentence."""
    cause: Cause = "lost"
    details: str = ""
    """Traceback; empty if there is none."""


class BudgetChanged(LedgerEvent):
    """The budget was changed. It replaces the one in the config for all later events."""

    event: Literal["budget_changed"] = "budget_changed"
    trials: Positive
    max_epochs: Positive
    target: Finite | None = None
    patience: Positive | None = None
    repeat: bool | None = None
    """Whether trials may repeat configurations; None: unchanged, as in older ledgers."""
    extended: list[Count] = Field(default_factory=list)
    """Numbers of unfinished, completed and pruned trials that continue up to the new
    `max_epochs`."""
    retried: list[Count] = Field(default_factory=list)
    """Numbers of failed trials that are retried from their newest checkpoints."""


class PriorTrial(BaseModel):
    """A trial of an earlier search, as far as it is relevant to a new search."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    number: Count
    """Number in the earlier search."""
    params: dict[str, ParameterValue]
    """Values of the hyperparameters that the new search samples."""
    status: Literal["completed", "pruned"]
    values: Annotated[dict[Positive, Finite], Field(min_length=1)]
    """The new search's metric by epoch."""


class WarmStarted(LedgerEvent):
    """The sampler received the trials of an earlier search, before its first proposal."""

    event: Literal["warm_started"] = "warm_started"
    origin: str
    """Name of the earlier experiment."""
    trials: list[PriorTrial]
    outside: Count
    """Number of its trials that were omitted because they are outside of the new space."""
    parameters_left_out: list[str]
    """Names of its hyperparameters that the new search does not sample."""
    same_data: bool = True
    """True if it used the same prepared data, so that its values are comparable."""


EndReason = Literal[
    "finished", "exhausted", "target", "no_improvement", "too_many_failed", "time", "interrupted"
]
"""Why a run ended: all trials ended (finished), every configuration of the space was tried
(exhausted), the target was reached, the last trials did not
improve the best value, too many trials failed, the time budget was used up, or a stop was requested
(interrupted)."""


class RunEnded(LedgerEvent):
    """A run ended. A killed driver does not write this event."""

    event: Literal["run_ended"] = "run_ended"
    reason: EndReason


class EnsembleSelected(LedgerEvent):
    """An ensemble was selected: an average of the probabilities of models. The latest one counts.

    Documents are those of the validation split, or evenly spaced ones of a very large split.
    """

    event: Literal["ensemble_selected"] = "ensemble_selected"
    fingerprint: Fingerprint
    """Fingerprint of the prepared data of all members."""
    size: Positive
    """Requested number of members, counting a member as often as it was selected."""
    members: list[EnsembleMember] = Field(min_length=1)
    """The members, the largest weight first. Weights sum to 1."""
    best: EnsembleMember
    """The best single candidate by `metric`, with a weight of 1."""
    metric: Metric
    """Metric by which the best candidate was chosen. Members are selected by cross-entropy."""
    candidates: Positive
    """Number of models that were considered."""
    documents: Positive
    """Number of validation documents that the selection used."""
    folds: Positive
    """Number of folds of the unbiased estimates."""
    ensemble: ValidScores
    single: ValidScores
    """Scores of the best candidate; in the estimates, it is chosen again for each fold."""
    loss_gain: Gain
    """Estimated loss of the best candidate minus that of the ensemble."""
    accuracy_gain: Gain
    """Estimated accuracy of the ensemble minus that of the best candidate."""
    fitted: Metrics = Field(default_factory=dict)
    """What was fitted to the average of the members on the validation split, as in the metrics of
    an epoch: threshold, temperature, valid_ece, ..., and `metric` there, if it is neither the
    accuracy nor the loss."""

    @field_validator("members")
    @classmethod
    def _check_members(cls, members: list[EnsembleMember]) -> list[EnsembleMember]:
        check_weights(members)
        return members


class CheckpointsKept(LedgerEvent):
    """An ensemble of another experiment has members in this one, whose checkpoints it needs.

    The event replaces earlier ones of the same owner.
    """

    event: Literal["checkpoints_kept"] = "checkpoints_kept"
    owner: ExperimentName
    """Name of the experiment that the ensemble belongs to, in the same storage."""
    checkpoints: dict[Count, list[CheckpointName]]
    """Names of the checkpoints by the number of their trial; empty: none are needed any more."""


Event = (
    ExperimentCreated
    | RunStarted
    | BaselineValidated
    | TrialCreated
    | EpochReported
    | TrialStopped
    | TrialFailed
    | WorkerLost
    | BudgetChanged
    | WarmStarted
    | RunEnded
    | TestSplitRead
    | EvaluationReported
    | EvaluationFailed
    | BaselineReported
    | EnsembleSelected
    | CheckpointsKept
    | EnsembleReported
)

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
"""Validates and parses any event."""
