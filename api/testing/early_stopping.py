"""Contract tests for early-stopping rules; they need pytest.

Subclass `EarlyStoppingContract` in a test module and set the registered name::

    class TestMyRule(EarlyStoppingContract):
        rule = "my_rule"
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from celltune.search.config.schema import SearchConfig
from celltune.search.config.settings import EarlyStoppingSettings
from celltune.search.extensions import EARLY_STOPPING
from celltune.search.tuning.base import EarlyStoppingRule, make_rule
from celltune.testing import _search

TRIALS = 12


class EarlyStoppingContract:
    """The requirements of every early-stopping rule (see `EarlyStoppingRule`)."""

    rule: ClassVar[str]
    """Registered name of the rule under test."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Its settings; other keys have their defaults."""

    def config(self) -> SearchConfig:
        """Return a config that selects the rule."""
        return _search.make_config(early_stopping={"rule": self.rule, **self.settings})

    def make(self) -> EarlyStoppingRule:
        """Return a rule of a new search."""
        rule = make_rule(self.config())
        assert rule is not None
        return rule

    def reports(self) -> list[tuple[int, int, Mapping[str, float]]]:
        """Return (trial, epoch, metrics) of interleaved trials."""
        rng = random.Random(1)  # noqa: S311 - test data
        epochs = dict.fromkeys(range(TRIALS), 0)
        reports: list[tuple[int, int, Mapping[str, float]]] = []
        while epochs:
            trial = rng.choice(sorted(epochs))
            epochs[trial] += 1
            loss = rng.uniform(0.2, 0.8)
            metrics = dict.fromkeys(self.config().reported_metrics, 1 - loss)
            metrics.update(valid_loss=loss, valid_accuracy=1 - loss)
            reports.append((trial, epochs[trial], MappingProxyType(metrics)))
            if epochs[trial] == _search.MAX_EPOCHS:
                del epochs[trial]
        return reports

    def test_is_registered_and_has_settings(self) -> None:
        assert self.rule in EARLY_STOPPING
        assert issubclass(EARLY_STOPPING.load(self.rule), EarlyStoppingRule)
        settings = self.config().early_stopping
        assert isinstance(settings, EarlyStoppingSettings)
        assert type(settings).model_validate(settings.model_dump(mode="json")) == settings
        assert settings.title
        assert settings.describe()

    def test_decisions_depend_on_the_reports_alone(self) -> None:
        first, second = self.make(), self.make()
        random.seed(1)
        decisions = [first.take(*report) for report in self.reports()]
        random.seed(2)
        assert [second.take(*report) for report in self.reports()] == decisions
        extended = [first.may_extend(trial) for trial in range(TRIALS)]
        assert [second.may_extend(trial) for trial in range(TRIALS)] == extended
        assert {type(decision) for decision in [*decisions, *extended]} <= {bool}

    def test_the_first_report_of_a_search_does_not_prune(self) -> None:
        assert self.make().take(*self.reports()[0])

    def test_rungs_are_ascending_epochs_below_the_last(self) -> None:
        rungs = self.make().rungs
        if rungs is not None:
            assert list(rungs) == sorted(set(rungs))
            assert all(1 <= rung < _search.MAX_EPOCHS for rung in rungs)

    def test_an_interrupted_search_equals_an_uninterrupted_one(self, tmp_path: Path) -> None:
        _search.check_interruptions(self.config(), tmp_path)
