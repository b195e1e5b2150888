"""A package adds a sampler as docs/extending/sampler.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from celltune.search.config.loading import dump_config, parse_config, read_yaml
from celltune.search.errors import ConfigError
from celltune.search.ledger.ledger import read
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.optuna_study import mirror_study
from tests.extensions.page import example
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps

EXAMPLE = example("sampler")

exec(EXAMPLE.suite)  # noqa: S102 - defines TestHalton, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _halton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


def test_a_search_uses_the_sampler_and_mirrors_an_optuna_study(tmp_path: Path) -> None:
    config = make_config(sampler={"name": "halton", "skip": 5})
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        assert type(controller.sampler).__name__ == "Halton"
        list(steps(controller, workers=2))
    state = ExperimentState(read(path))
    sizes = [trial.params["hidden_size"] for trial in state.trials]
    assert len(set(sizes)) > 6, "the sequence covers the space"
    assert len(mirror_study(config, state).trials) == len(state.trials) == 12


def test_the_config_keeps_the_settings(tmp_path: Path) -> None:
    config = make_config(sampler={"name": "halton"})
    assert config.sampler.model_dump() == {"name": "halton", "skip": 20}
    path = tmp_path / "experiment.yaml"
    path.write_text(dump_config(config))
    assert parse_config(read_yaml(path)) == config


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"name": "halten"}, "sampler.name: 'halten' is not a sampler. Did you mean 'halton'?"),
        ({"name": "halton", "skp": 1}, "sampler.skp is unknown. Did you mean 'skip'?"),
        ({"name": "halton", "skip": -1}, "sampler.skip is -1. It must be at least 0"),
        ({"name": "tpe", "skip": 1}, "sampler.skip is unknown. .*name, startup_trials"),
        ({"name": 3}, "sampler.name: '3' is not a sampler"),
        (None, "sampler is null. It must map keys to values"),
    ],
)
def test_invalid_settings_are_rejected(sampler: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(sampler=sampler)
