"""Contract tests for samplers; they need pytest.

Subclass `SamplerContract` in a test module and set the registered name::

    class TestMySampler(SamplerContract):
        sampler = "my_sampler"
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from celltune.search.config.space import Choice, Range, Space, is_active
from celltune.search.extensions import SAMPLERS
from celltune.search.ledger.events import PriorTrial
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.base import Sampler, make_sampler
from celltune.testing import _search

TRIALS = 30


class SamplerContract:
    """The requirements of every sampler (see `Sampler`)."""

    sampler: ClassVar[str]
    """Registered name of the sampler under test."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Its settings; other keys have their defaults."""

    def config(self, **changes: Any) -> Any:
        """Return a config that selects the sampler."""
        return _search.make_config(sampler={"name": self.sampler, **self.settings}, **changes)

    def make(self, **changes: Any) -> Sampler:
        """Return a sampler of a new search."""
        sampler = make_sampler(self.config(**changes))
        sampler.replay(ExperimentState())
        return sampler

    def test_is_registered_and_has_settings(self) -> None:
        assert self.sampler in SAMPLERS
        assert issubclass(SAMPLERS.load(self.sampler), Sampler)
        settings = self.config().sampler
        assert type(settings).model_validate(settings.model_dump(mode="json")) == settings

    def test_proposals_lie_within_the_space(self) -> None:
        space, sampler = self.config().space, self.make()
        for number in range(TRIALS):
            check_within(space, sampler.propose(number))

    def test_proposals_after_a_warm_start_lie_within_the_space(self) -> None:
        config = self.config()
        params = {name: value for name, value in _PRIOR.items() if name in config.space.searched}
        prior = PriorTrial(number=0, params=params, status="completed", values={1: 0.6, 2: 0.7})
        sampler = make_sampler(config, (prior,) * 12)
        sampler.replay(ExperimentState())
        for number in range(5):
            check_within(config.space, sampler.propose(number))

    def test_a_fixed_space_has_one_proposal(self) -> None:
        fixed = {"cell": "gru", "learning_rate": 0.01}
        assert self.make(space=fixed).propose(0) == fixed

    def test_given_values_are_kept(self) -> None:
        config = self.config()
        for given in _GIVEN:
            first, second = self.make(), self.make()
            if not first.proposes_given():
                with pytest.raises(NotImplementedError, match="cannot propose trials with given"):
                    first.propose_given(0, given)
                return
            for number in range(TRIALS):
                params = first.propose_given(number, given)
                check_within(config.space, params)
                # A given value is ignored if its hyperparameter is inactive.
                assert all(params[n] == value for n, value in given.items() if n in params)
                assert params == second.propose_given(number, given)

    def test_withdrawn_proposals_have_no_effect(self) -> None:
        given = {"learning_rate": 0.01, "dropout": 0.25}
        first, second = self.make(), self.make()
        if not first.withdraws():
            return
        for number in range(TRIALS):
            if number % 3 == 0:
                withdrawn = []
                for _ in range(4):
                    withdrawn.append(first.propose(number))
                    first.withdraw(number)
                assert len({tuple(params.items()) for params in withdrawn}) > 1
                proposed = first.propose_given(number, given), second.propose_given(number, given)
                assert proposed[0].items() >= given.items()
            else:
                proposed = first.propose(number), second.propose(number)
                assert proposed[0] == proposed[1]
            check_within(self.config().space, proposed[0])

    def test_proposals_are_reproducible(self) -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the global state must not matter
        first = self.make()
        proposals = [first.propose(number) for number in range(TRIALS)]
        random.seed(2)
        np.random.seed(2)  # noqa: NPY002 - the global state must not matter
        second = self.make()
        assert [second.propose(number) for number in range(TRIALS)] == proposals

    def test_the_global_random_state_is_not_changed(self) -> None:
        states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
        self.make().propose(0)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index] # noqa: NPY002

    def test_an_interrupted_search_equals_an_uninterrupted_one(self, tmp_path: Path) -> None:
        _search.check_interruptions(self.config(), tmp_path)

    def test_concurrent_trials_are_supported(self, tmp_path: Path) -> None:
        config = self.config()
        with Ledger(tmp_path / "ledger.jsonl") as ledger:
            search = _search.open_search(config, ledger)
            for _ in _search.steps(config, search, workers=3):
                pass
        assert search.end_reason == "finished"
        assert len(search.state.trials) == config.budget.trials


_PRIOR: Mapping[str, Any] = {
    "cell": "gru",
    "hidden_size": 32,
    "num_layers": 2,
    "layer_dropout": 0.2,
    "dropout": 0.1,
    "learning_rate": 0.01,
    "batch_size": 16,
}


_GIVEN: tuple[Mapping[str, Any], ...] = (
    {},
    {"cell": "lstm", "hidden_size": 12, "num_layers": 1, "batch_size": 24},
    {"num_layers": 2, "layer_dropout": 0.3},
    {"num_layers": 1, "layer_dropout": 0.3},
)


def check_within(space: Space, params: Mapping[str, Any]) -> None:
    """Assert that hyperparameters are a point of a space: all active ones, with allowed values."""
    assert set(params) == {n for n in (*space.fixed, *space.searched) if is_active(n, params)}
    for name, value in params.items():
        if name in space.fixed:
            assert value == space.fixed[name], name
            continue
        dimension = space.searched[name]
        if isinstance(dimension, Choice):
            assert any(type(value) is type(c) and value == c for c in dimension.values), name
        else:
            check_in_range(dimension, value, name)


def check_in_range(dimension: Range, value: Any, name: str) -> None:
    """Assert that a value is within a range and has its type and step."""
    assert type(value) is (int if dimension.integer else float), name
    assert dimension.low <= value <= dimension.high, name
    if dimension.step is not None:
        count = (value - dimension.low) / dimension.step
        assert abs(count - round(count)) < 1e-6, name
