"""Contract suite for early-stopping rules; needs pytest.

Subclass `EarlyStoppingContract` in a test module, set `rule`, and run pytest::

    class TestMyRule(EarlyStoppingContract):
        rule = MyRule
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from celltune.search.tuning.base import EarlyStoppingRule, EarlyStoppingSettings

MAX_EPOCHS = 6
TRIALS = 12


class EarlyStoppingContract:
    """What every early-stopping rule guarantees (see `EarlyStoppingRule`)."""

    rule: ClassVar[type[EarlyStoppingRule]]
    """The class to test."""
    settings: ClassVar[EarlyStoppingSettings | None] = None
    """The settings to test with; None: the defaults of `rule.Settings`."""

    def make(self) -> EarlyStoppingRule:
        """Return a new rule."""
        return self.rule(self.settings or self.rule.Settings(), MAX_EPOCHS)

    def reports(self) -> Sequence[tuple[int, int, dict[str, float]]]:
        """Return (trial, epoch, metrics) of interleaved trials."""
        generator = random.Random(0)  # noqa: S311 (not for cryptography)
        epochs = dict.fromkeys(range(TRIALS), 0)
        reports = []
        while epochs:
            trial = generator.choice(sorted(epochs))
            epochs[trial] += 1
            loss = generator.uniform(0.2, 0.8)
            metrics = {"valid_loss": loss, "valid_accuracy": 1 - loss}
            by = (self.settings or self.rule.Settings()).by
            reports.append((trial, epochs[trial], {by: loss, **metrics}))
            if epochs[trial] == MAX_EPOCHS:
                del epochs[trial]
        return reports

    def test_the_same_reports_give_the_same_decisions(self) -> None:
        """A resumed search replays all epochs of the ledger through a new rule."""
        one, other = self.make(), self.make()
        decisions = [one.take(*report) for report in self.reports()]
        random.seed(1)
        if [other.take(*report) for report in self.reports()] != decisions:
            raise AssertionError("A rule must depend only on its arguments and on earlier reports.")
        if [one.may_extend(trial) for trial in range(TRIALS)] != [
            other.may_extend(trial) for trial in range(TRIALS)
        ]:
            raise AssertionError("`may_extend` must depend only on earlier reports.")

    def test_decisions_are_booleans(self) -> None:
        """`take` decides about every epoch, including the last one of a trial."""
        rule = self.make()
        for trial, epoch, metrics in self.reports():
            if not isinstance(rule.take(trial, epoch, metrics), bool):
                raise AssertionError("`take` must return True or False.")  # noqa: TRY004

    def test_metrics_are_not_modified(self) -> None:
        """The metrics belong to the ledger's events."""
        rule = self.make()
        for trial, epoch, metrics in self.reports():
            before = dict(metrics)
            rule.take(trial, epoch, metrics)
            if metrics != before:
                raise AssertionError("`take` must not modify the metrics.")

    def test_the_first_trial_is_not_pruned(self) -> None:
        """A trial cannot be pruned before it can be compared with another one."""
        rule = self.make()
        _, epoch, metrics = self.reports()[0]
        if not rule.take(0, epoch, metrics):
            raise AssertionError("The first report of a search must not prune its trial.")

    def test_rungs_are_ascending_epochs_below_the_last(self) -> None:
        """Rungs are drawn into the report's learning curves."""
        rungs = self.make().rungs
        if rungs is not None and not (
            list(rungs) == sorted(set(rungs)) and all(0 < rung <= MAX_EPOCHS for rung in rungs)
        ):
            raise AssertionError("`rungs` must be ascending epochs between 1 and max_epochs.")

    def test_settings_can_be_described_and_stored(self) -> None:
        """Settings are written to the experiment's config and read from it."""
        settings = self.settings or self.rule.Settings()
        if type(settings).model_validate(settings.model_dump(mode="json")) != settings:
            raise AssertionError("Settings must be equal after a round trip through JSON.")
        if not (settings.title and settings.describe()):
            raise AssertionError("Settings need a title and a description.")
