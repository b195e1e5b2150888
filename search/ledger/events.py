"""What can happen in an experiment: the lines of a ledger.

Every event is immutable and complete in itself. New optional fields may be added; a field's
meaning never changes, so that a ledger stays readable by every later release.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from celltune.search.types import Finite, ParameterValue, TrainingSplits


class _Event(BaseModel):
    # Unknown fields of a newer release are read over; Finite keeps NaN out of every metric.
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    at: float
    """When it was written: seconds since 1970, by the driver's clock. Nothing is ordered by it."""


class ExperimentCreated(_Event):
    """The first line of every ledger."""

    event: Literal["experiment_created"] = "experiment_created"
    schema_version: int = 1
    fingerprint: str
    """Which prepared data the experiment stands on; a resume on other data is refused."""
    valid_reviews: int | None = None
    """How many reviews every accuracy is counted on; None: written by a release before this."""


class RunStarted(_Event):
    """A driver took up the experiment: the first launch or a resume."""

    event: Literal["run_started"] = "run_started"
    resumed: bool
    celltune: str
    """The release of celltune that runs."""
    host: str
    pid: int
    versions: dict[str, str] = {}
    """Of Python and of the libraries that shape the numbers."""


class TrialCreated(_Event):
    """A trial was proposed. Numbers count from 0 in the order of the ledger."""

    event: Literal["trial_created"] = "trial_created"
    number: int
    params: dict[str, ParameterValue]
    """Every hyperparameter that is active in this trial, sampled or fixed."""
    max_epochs: int


class EpochReported(_Event):
    """A trial finished an epoch, and its checkpoint was whole on the storage before that."""

    event: Literal["epoch_reported"] = "epoch_reported"
    number: int
    epoch: int
    """Epochs trained so far, so the first is 1."""
    metrics: dict[str, Finite]
    checkpoint: str | None
    """The checkpoint's folder name within the trial's folder."""


class TrialStopped(_Event):
    """A trial ended as planned: it used its epochs, or ASHA stopped it early."""

    event: Literal["trial_stopped"] = "trial_stopped"
    number: int
    reason: Literal["completed", "pruned"]


class TrialFailed(_Event):
    """A trial ended with an error; the search goes on."""

    event: Literal["trial_failed"] = "trial_failed"
    number: int
    error: str
    """One sentence for people."""
    details: str = ""
    """The traceback, where there is one."""


Cause = Literal["lost", "hung", "memory", "raised"]
"""Why a trial was set back: its process died, gave no epoch in time, had too little memory, or
raised an error that may not come again."""


CAUSES: dict[Cause, str] = {
    "lost": "its worker died",
    "hung": "it hung",
    "memory": "it had too little memory",
    "raised": "it raised an error",
}
"""The same in words."""


class WorkerLost(_Event):
    """A trial was set back to its newest checkpoint; it is still unfinished."""

    event: Literal["worker_lost"] = "worker_lost"
    number: int
    error: str
    """What is known of it."""
    cause: Cause = "lost"
    details: str = ""
    """The traceback, where there is one."""


class BudgetChanged(_Event):
    """From here on the experiment has this budget, whatever its config says."""

    event: Literal["budget_changed"] = "budget_changed"
    trials: int
    max_epochs: int
    target: Finite | None = None
    patience: int | None = None
    extended: list[int] = []
    """Unfinished and completed trials that train on, up to the new `max_epochs`."""
    retried: list[int] = []
    """Failed trials that go on from their newest checkpoints."""


class PriorTrial(BaseModel):
    """What an earlier search learned from one trial."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    number: int
    """In the earlier search."""
    params: dict[str, ParameterValue]
    """Only those that the new search searches."""
    status: Literal["completed", "pruned"]
    values: dict[int, Finite]
    """The new search's metric after each epoch."""


class WarmStarted(_Event):
    """Optuna was told of an earlier search, before the first proposal."""

    event: Literal["warm_started"] = "warm_started"
    origin: str
    """The earlier search's name."""
    trials: list[PriorTrial]
    outside: int
    """How many of its trials lie outside the new space and were left out."""
    parameters_left_out: list[str]
    """Which of its hyperparameters the new space doesn't search."""
    same_data: bool = True
    """Whether it searched on the same prepared data, so that its values compare."""


EndReason = Literal[
    "finished", "target", "no_improvement", "too_many_failed", "time", "interrupted"
]
"""Why a driver left: all trials ended; the target was met; the last trials brought nothing better;
too many failed; its time was over; or it was asked to stop."""


class RunEnded(_Event):
    """A driver left the experiment in good order. A killed one leaves no such line."""

    event: Literal["run_ended"] = "run_ended"
    reason: EndReason


class TestSplitRead(_Event):
    """The test split is about to be read: written first, so that no reading goes uncounted."""

    event: Literal["test_split_read"] = "test_split_read"
    reader: str
    """What is measured on it, in words."""
    reviews: int


class _Measured(_Event):
    """What a model that was trained anew came to on the training and on the test split.

    Measures are those of the finished model, without dropout: train_accuracy, test_loss (mean
    natural logarithm), test_f1 (of class 1, or macro with more than two classes), parameters,
    seconds_per_epoch, seconds, milliseconds_per_review, vector_coverage (the share of the training
    part's tokens that pretrained vectors know), ...
    """

    on: TrainingSplits
    """What it learned from."""
    metrics: dict[str, Finite]
    classes: list[str]
    train_confusion: list[list[int]]
    """Rows the truth, columns the answers."""
    test_confusion: list[list[int]]
    test_outcomes: str
    """The outcome of each test review (see `search.measures.pack`)."""
    test_fingerprint: str
    """Which test split was read."""


class EvaluationReported(_Measured):
    """A trial's parameters, trained from scratch with a seed of their own, were measured."""

    event: Literal["evaluation_reported"] = "evaluation_reported"
    number: int
    seed: int
    epoch: int
    """Epochs trained by the weights that were measured."""


class EvaluationFailed(_Event):
    """Training a trial's parameters from scratch broke; the next evaluation tries again."""

    event: Literal["evaluation_failed"] = "evaluation_failed"
    number: int
    seed: int
    on: TrainingSplits
    error: str


class BaselineReported(_Measured):
    """A baseline was fitted and measured on the same splits."""

    event: Literal["baseline_reported"] = "baseline_reported"
    name: str


Event = (
    ExperimentCreated
    | RunStarted
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
)

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
"""Reads and checks any event."""
