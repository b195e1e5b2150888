"""Events of ensembles for tests."""

from __future__ import annotations

from celltune.search.ledger.ensembles import EnsembleMember, Gain, ValidScores
from celltune.search.ledger.events import EnsembleReported, EnsembleSelected
from tests.search.outcomes import packed_outcomes

COSTS = {"train_accuracy": 1.0, "parameters": 10.0, "seconds": 1.0}


def member(number: int = 0, epoch: int = 1, **values: object) -> EnsembleMember:
    fields = {
        "number": number,
        "epoch": epoch,
        "checkpoint": f"epoch-{epoch}",
        "weight": 1.0,
        "params": {"cell": "gru"},
        "parameters": 10,
        "valid_loss": 0.5,
        "valid_accuracy": 0.8,
        **values,
    }
    return EnsembleMember.model_validate(fields)


def selected(*members: EnsembleMember, at: float = 0.0) -> EnsembleSelected:
    scores = ValidScores(loss=0.4, accuracy=0.8, estimated_loss=0.5, estimated_accuracy=0.7)
    return EnsembleSelected(
        at=at,
        fingerprint="f",
        size=8,
        members=list(members),
        best=member(),
        metric="valid_accuracy",
        candidates=3,
        documents=40,
        folds=5,
        ensemble=scores,
        single=scores,
        loss_gain=Gain(mean=0.1, error=0.04),
        accuracy_gain=Gain(mean=0.01, error=0.02),
    )


def scored(*members: EnsembleMember) -> EnsembleReported:
    return EnsembleReported(
        at=0.0,
        members=list(members),
        on="train",
        metrics={**COSTS, "test_accuracy": 0.8, "test_loss": 0.5},
        classes=["a", "b"],
        train_confusion=[[5, 0], [0, 5]],
        test_confusion=[[4, 1], [1, 4]],
        test_outcomes=packed_outcomes([[4, 1], [1, 4]]),
        test_fingerprint="t",
    )
