"""The expected cost of a search: measured trials and simulated searches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.preparation import pipeline
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.config.schema import Resources
from celltune.search.errors import ConfigError
from celltune.search.runs import estimate as module
from celltune.search.runs import measurement
from celltune.search.runs.estimate import Range, Simulated, estimate, simulate, worker_count
from celltune.search.runs.measurement import Measured, measure
from celltune.search.runs.session import resolve_for_run
from celltune.search.runs.view import SilentView
from celltune.search.setup.durations import START
from celltune.search.setup.inspection import Machine
from tests.search.simulated_search import RAW, make_config


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only that of data: compiled code is shared with other tests.
    monkeypatch.setattr(pipeline, "default_cache_dir", lambda: tmp_path / "cache")


@pytest.mark.parametrize(
    ("resources", "cores", "workers"),
    [
        ({}, 4, 4),
        ({"cpus_per_trial": 2}, 5, 2),
        ({"cpus_per_trial": 0.5}, 2, 4),
        ({"concurrent_trials": 3}, 8, 3),
        ({"concurrent_trials": 9}, 2, 2),
        ({"concurrent_trials": 8, "trials_per_worker": 4}, 8, 2),
    ],
)
def test_workers_are_those_that_fit_into_the_machine(
    resources: Any, cores: int, workers: int
) -> None:
    assert worker_count(Resources.model_validate(resources, strict=False), cores) == workers


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpus_per_trial": 0.25}, r"gpus_per_trial is 0\.25, but an estimate trains on CPUs only"),
        ({"cpus_per_trial": 4}, r"cpus_per_trial is 4, but this machine has 2\. Set it to at most"),
    ],
)
def test_resources_that_this_machine_lacks_are_rejected(resources: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        worker_count(Resources.model_validate(resources, strict=False), 2)


def test_without_early_stopping_the_duration_is_that_of_all_epochs() -> None:
    config = make_config(early_stopping=None, budget={"trials": 5, "max_epochs": 3})
    assert simulate(config, [2.0], 1, 0) == Simulated(30.0, 3.0)
    assert simulate(config, [2.0], 2, 0) == Simulated(18.0, 3.0)
    assert simulate(config, [2.0], 9, 0) == Simulated(6.0, 3.0)


def test_early_stopping_leaves_about_one_trial_in_its_factor() -> None:
    config = make_config(
        early_stopping={"grace_period": 1, "reduction_factor": 4},
        budget={"trials": 400, "max_epochs": 4},
    )
    epochs = [simulate(config, [1.0], 1, seed).epochs for seed in range(5)]
    assert 1 + 3 / 4 < sum(epochs) / 5 < 1 + 3 / 4 + 0.2
    assert simulate(config, [1.0], 1, 3) == simulate(config, [1.0], 1, 3)


def test_the_wide_part_alone_and_repetitions_take_no_time() -> None:
    space = {"cell": ["gru", "lstm"], "hidden_size": 8, "wide": "add"}
    config = make_config(
        space=space,
        data={"source": "synthetic", "reviews": 40, "wide": True},
        first_trials=[{"wide": "only"}],
        early_stopping=None,
        budget={"trials": 12, "max_epochs": 3},
    )
    assert simulate(config, [1.0], 1, 0) == Simulated(6.0, 3.0)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure in this process, with the functions that a process of its own would call."""

    class Pool:
        def __init__(self, workers: int, *, initializer: Any, initargs: Any, **_: Any) -> None:
            initializer(*initargs)

        def map(self, call: Any, *arguments: Any) -> Any:
            return map(call, *arguments)

        def shutdown(self, *, cancel_futures: bool) -> None:
            assert cancel_futures
            module._opened.clear()

    import torch

    threads = torch.get_num_threads()
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(measurement, "ENOUGH_SECONDS", 0.01)
    monkeypatch.setattr(module, "this_machine", lambda: Machine(2, 10**9))
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("in_this_process")
def test_trials_of_the_search_are_measured() -> None:
    changes = {"early_stopping": None, "budget": {"trials": 3, "max_epochs": 4}}
    config = resolve_for_run({**RAW, **changes}, view=SilentView())
    found = estimate(config, SilentView())
    assert (found.trials, found.workers, found.epochs) == (3, 2, 4.0)
    assert (found.measured, found.documents, found.train_documents) == (3, 32, 32)
    assert 0 < found.epoch_seconds.low <= found.epoch_seconds.mean <= found.epoch_seconds.high < 5
    least, most = 8 * found.epoch_seconds.low, 12 * found.epoch_seconds.high
    assert START + least <= found.seconds.low <= found.seconds.mean <= 50 * START + most
    assert found.worker_bytes > 10**8
    assert not found.limited


@pytest.mark.parametrize(("limit", "expected"), [(None, (84.0, 3.0)), (9.0, (9.0, 3.0))])
def test_a_time_limit_ends_the_search(
    limit: float | None, expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_measure", lambda *_: [Measured(10.0, 30, 0, 2.0)])
    monkeypatch.setattr(module, "this_machine", lambda: Machine(1, 10**9))
    monkeypatch.setattr(module, "START", 12.0)
    budget = {"trials": 2, "max_epochs": 3, "time": limit}
    config = make_config(early_stopping=None, budget=budget)
    found = estimate(config, SilentView())
    assert (found.seconds, found.epochs) == (Range(*[expected[0]] * 3), expected[1])
    assert found.limited == (limit is not None)
    assert found.epoch_seconds == Range(10.0, 10.0, 10.0)


def test_an_epoch_on_all_documents_is_extrapolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data={"source": "synthetic", "reviews": 200})
    data = prepare(config.data)
    monkeypatch.setattr(measurement, "_FIRST_DOCUMENTS", 40)
    params = {"cell": "gru", "hidden_size": 4, "embedding_size": 4, "learning_rate": 0.01}

    def measured(enough: float) -> Measured:
        monkeypatch.setattr(measurement, "ENOUGH_SECONDS", enough)
        folder = tmp_path / str(enough)
        folder.mkdir()
        return measure(params, data, seed=1, metrics=("valid_loss",), folder=folder)

    short, long = measured(1e-9), measured(60.0)
    assert (short.documents, long.documents) == (40, 160)
    assert short.epoch_seconds > 0
    assert long.epoch_seconds < 5


def test_processes_start_in_an_empty_folder_and_ignore_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start").mkdir()
    handler = signal.getsignal(signal.SIGINT)
    with module._starting_processes(tmp_path / "start"):
        assert Path.cwd() == tmp_path / "start"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert Path.cwd() == tmp_path
    assert signal.getsignal(signal.SIGINT) is handler
