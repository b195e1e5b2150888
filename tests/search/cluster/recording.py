"""A controller that records its calls, and assignments from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from celltune.search.cluster.assignments import Assignments
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.packing import PackShape, shape_of
from celltune.search.tuning.trial import TrialTask
from celltune.search.types import EpochReport

NOTHING = cast("Any", None)
EPOCH = EpochReport(1, {"valid_accuracy": 0.5}, "epoch-1")


PARAMS = {"cell": "gru", "hidden_size": 4}


class RecordingController:
    """Records its calls; every trial continues unless `goes_on` is False."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.goes_on = True
        self.waiting: list[int] = []
        self.alone = False
        self.end_reason: str | None = None

    def next(self, shape: PackShape | None = None) -> Assignment | None:
        assert shape in (None, shape_of(PARAMS))
        self.calls.append(("next",) if shape is None else ("next of shape",))
        if not self.waiting:
            return None
        return Assignment(self.waiting.pop(0), dict(PARAMS), 3, (), self.alone)

    @property
    def trials_to_start(self) -> int:
        return len(self.waiting)

    def report_together(self, reports: Mapping[int, Any]) -> set[int]:
        if reports:
            self.calls.append(("report", {n: list(epochs) for n, epochs in reports.items()}))
        return set() if self.goes_on else set(reports)

    def fail(self, *arguments: Any) -> None:
        self.calls.append(("fail", *arguments))

    def retry_or_fail(self, *arguments: Any) -> None:
        self.calls.append(("retry", *arguments))


def assignments_of(
    controller: RecordingController, trials_per_worker: int = 1, workers: int = 1
) -> Assignments:
    def make_task(assignment: Assignment) -> TrialTask:
        number, params = assignment.number, assignment.params
        return TrialTask(number, params, 1, NOTHING, alone=assignment.alone)

    return Assignments(
        cast("SearchController", controller),
        make_task,
        workers=workers,
        trials_per_worker=trials_per_worker,
    )
