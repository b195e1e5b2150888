"""A package adds a storage backend as docs/extending/storage.md describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from celltune.search.errors import ExperimentError
from celltune.search.leaderboard import leaderboard
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from celltune.testing.storage import CREATED
from tests.api.extension import installed
from tests.search.assertions import assert_all_ended
from tests.search.simulated_search import make_config, make_controller, steps

PAGES = Path(__file__).parents[2] / "docs" / "extending"
PAGE = (PAGES / "storage.md").read_text("utf-8")
MODULE, SUITE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ENTRY_POINT = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', PAGE)

exec(SUITE)  # noqa: S102 - defines TestFileObjects, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _file_objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    assert ENTRY_POINT is not None
    group, name, reference = ENTRY_POINT.groups()
    with installed(
        tmp_path_factory.mktemp("site"), "file_objects", {group: {name: reference}}, MODULE
    ):
        yield


def test_search_is_interrupted_resumed_and_ranked(tmp_path: Path) -> None:
    address = f"objects://{tmp_path}/searches"
    config = make_config(budget={"trials": 6, "max_epochs": 3})
    new_experiment("demo", address).create(config, CREATED)
    run_search(find_experiment("demo", address), reports=7)
    run_search(find_experiment("demo", address), reports=None)
    assert_all_ended(find_experiment("demo", address).state(), 6)
    assert list(leaderboard("demo", storage=address)["rank"]) == [1, 2, 3, 4, 5, 6]


def run_search(experiment: Experiment, reports: int | None) -> None:
    """Run a search with the controller, until it ends or after a number of reports."""
    with experiment.locked(), experiment.open_ledger() as ledger:
        controller = make_controller(experiment.config(), ledger)
        for _ in islice(steps(controller), reports):
            assert experiment.snapshot().running


def test_unknown_scheme_is_reported_with_the_installed_one() -> None:
    with pytest.raises(ExperimentError, match=r"unknown scheme 'object'. .* objects\."):
        open_storage("object:///searches")


def test_relative_path_is_rejected() -> None:
    with pytest.raises(ExperimentError, match="is not absolute"):
        open_storage("objects://searches")
