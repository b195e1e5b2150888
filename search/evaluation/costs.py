"""The cost of the wide part in the results of an evaluation.

The wide part is fitted when the data is prepared, and its outputs for the test split are stored
with the data. The time that a model takes to train and to classify a document contains it
nevertheless, as the times of the baselines contain their n-grams. An ensemble needs it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from celltune.data_prep.types import JSON
from celltune.search.ledger.evaluations import EnsembleReported, EvaluationReported
from celltune.search.types import ParameterValue, TrainingSplits, is_wide_only

WIDE_SECONDS = "wide_seconds"
"""Metric of results whose costs contain the wide part: the time of its fit, in seconds."""

Params = Mapping[str, ParameterValue]
Result = TypeVar("Result", EvaluationReported, EnsembleReported)


@dataclass(frozen=True)
class WideCosts:
    """What the wide part of a data set costs; None: a release that did not measure it prepared it.

    Attributes:
        seconds: time of the fit.
        milliseconds: time for a document of the test split.
    """

    seconds: float | None
    milliseconds: float | None

    @classmethod
    def of(
        cls, data: Mapping[str, JSON], test: Mapping[str, JSON], on: TrainingSplits
    ) -> WideCosts:
        """Return the costs of the wide part of a data set.

        Args:
            data: `PreparedData.info`.
            test: `PreparedTest.info`.
            on: splits that the wide part is fitted to.
        """
        milliseconds = _number(test, "milliseconds")
        if on == "train":
            return cls(_number(data, "seconds"), milliseconds)
        return cls(_number(test, "train_valid_seconds"), milliseconds)

    def added_to(self, metrics: Mapping[str, float], models: Iterable[Params]) -> dict[str, float]:
        """Return the metrics of a result with the costs of the wide part, if a model contains it.

        Args:
            metrics: the metrics, whose costs are those of the networks.
            models: hyperparameters of the trial, or of each member of an ensemble.
        """
        models = list(models)
        if not any(map(_has_wide, models)):
            return dict(metrics)
        added = {"seconds": self.seconds, "milliseconds_per_review": self.milliseconds}
        costs = {name: metrics[name] + cost for name, cost in added.items() if cost is not None}
        if self.seconds is not None:
            costs[WIDE_SECONDS] = self.seconds
        unknown = _affected(models)
        return {k: value for k, value in metrics.items() if k not in unknown} | costs


def without_unknown_costs(result: Result, models: Iterable[Params]) -> Result:
    """Return a result without the costs that do not contain those of the wide part.

    Earlier releases recorded the costs of the network alone.

    Args:
        result: the result.
        models: hyperparameters of the trial, or of each member of an ensemble.
    """
    models = list(models)
    if WIDE_SECONDS in result.metrics or not any(map(_has_wide, models)):
        return result
    unknown = _affected(models)
    known = {name: value for name, value in result.metrics.items() if name not in unknown}
    return result.model_copy(update={"metrics": known})


def _affected(models: Iterable[Params]) -> set[str]:
    """Return the metrics that have another meaning with the wide part.

    It has no epochs, so a model that is nothing else has no time per epoch.
    """
    per_epoch = {"seconds_per_epoch"} if all(map(is_wide_only, models)) else set()
    return {"seconds", "milliseconds_per_review", *per_epoch}


def _has_wide(params: Params) -> bool:
    return params.get("wide", "none") != "none"


def _number(info: Mapping[str, JSON], name: str) -> float | None:
    wide = info.get("wide")
    value = wide.get(name) if isinstance(wide, dict) else None
    return float(value) if isinstance(value, (int, float)) else None
