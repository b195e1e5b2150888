"""The events of evaluations on the test split, and the base class of all events."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.ledger.fields import Count, Fingerprint, Metrics, Positive, Time
from celltune.search.ledger.scores import check_scores
from celltune.search.objective import objective_metric
from celltune.search.types import Metric, TrainingSplits


class LedgerEvent(BaseModel):
    """What all events have in common."""

    # Unknown fields, written by a newer release, are ignored.
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    at: Time
    """Time of writing: seconds since 1970 by the driver's clock. No order depends on it."""


class TestSplitRead(LedgerEvent):
    """The test split is about to be read. Written beforehand, so that every read is counted."""

    event: Literal["test_split_read"] = "test_split_read"
    reader: str
    """Description of what is evaluated on it."""
    reviews: Count
    """Number of documents in the test split."""


class Evaluated(LedgerEvent):
    """Scores of a newly trained model on the train and test splits."""

    _needed: ClassVar[tuple[str, ...]] = (
        "test_accuracy",
        "train_accuracy",
        "parameters",
        "seconds",
    )

    on: TrainingSplits
    """Splits that the model was trained on."""
    metrics: Metrics
    """Scores of the final model, without dropout, and costs: train_accuracy, test_loss (mean,
    natural logarithm), test_f1 (of class 1, or macro with more than two classes; older releases
    counted classes without a test document as 0, so readers derive it from the confusion matrix),
    parameters, seconds_per_epoch, seconds, milliseconds_per_review (per document), wide_seconds
    (of the fit of the wide part, if the costs contain it), vector_coverage
    (share of the train split's tokens that have a pretrained vector), ..."""
    classes: list[str]
    """Names of the classes, in the order of the confusion matrices."""
    train_confusion: list[list[int]]
    """Confusion matrix: rows are true classes, columns are predictions."""
    test_confusion: list[list[int]]
    """The same for the test split."""
    test_outcomes: str
    """Outcome for each test document (see `celltune.search.metrics.pack_outcomes`)."""
    test_fingerprint: Fingerprint
    """Fingerprint of the test split."""

    @model_validator(mode="after")
    def _check(self) -> Evaluated:
        matrices = {"train": self.train_confusion, "test": self.test_confusion}
        check_scores(self.classes, matrices, self.test_outcomes, self.metrics, self._needed)
        return self

    def score(self, metric: Metric) -> float | None:
        """Return a metric of a search, such as valid_macro_f1, on the test split; None: unknown."""
        stored = self.metrics.get(f"test_{metric.removeprefix('valid_')}")
        of_confusion = objective_metric(metric).of_confusion
        if stored is not None or of_confusion is None:
            return stored
        import numpy as np

        return float(of_confusion()(np.array(self.test_confusion)))

    @property
    def documents(self) -> int:
        """Number of documents in the test split."""
        return sum(map(sum, self.test_confusion))


class EvaluationReported(Evaluated):
    """A retraining was evaluated: a trial's hyperparameters, from scratch, with another seed."""

    event: Literal["evaluation_reported"] = "evaluation_reported"
    number: Count
    seed: Count
    epoch: Positive
    """Epoch whose weights were evaluated."""


class EvaluationFailed(LedgerEvent):
    """A retraining of a trial failed. The next evaluation tries it again."""

    event: Literal["evaluation_failed"] = "evaluation_failed"
    number: Count
    seed: Count
    on: TrainingSplits
    error: str
    """Description of the error in one sentence."""


class BaselineReported(Evaluated):
    """A baseline was trained and evaluated on the same splits."""

    event: Literal["baseline_reported"] = "baseline_reported"
    name: str


class EnsembleReported(Evaluated):
    """The ensemble was scored on the train and test splits, with the checkpoints of its members."""

    _needed: ClassVar[tuple[str, ...]] = (*Evaluated._needed, "test_loss")

    event: Literal["ensemble_reported"] = "ensemble_reported"
    members: list[EnsembleMember]
