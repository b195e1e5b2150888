from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from celltune.models.errors import TrialError
from celltune.models.training.trainer import Trainer
from celltune.search.cluster.task_pool import Job
from celltune.search.errors import OptionError
from celltune.search.evaluation import comparison
from celltune.search.evaluation.comparison import compare, notes
from celltune.search.evaluation.published_models import load_published_models
from celltune.search.storage.base import Experiment
from tests.search.evaluation.published import (
    RAW,
    ledger_of,
    load_one,
    record_failure,
    record_result,
    start_training,
    write_config,
)


class PowerLossError(BaseException):
    """Ends a process like `kill -9` would: no handler of the product catches it."""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the tasks of a comparison in this process, without a cluster."""

    @contextmanager
    def connected_cluster(*arguments: Any) -> Iterator[int]:
        yield 1

    def submit(resources: Any, retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
        return partial(call, *arguments)

    def run_jobs(jobs: Iterable[Job], slots: int, should_stop: Callable[[], bool]) -> None:
        for job in jobs:
            with closing(job), suppress(StopIteration):
                task = next(job)
                while True:
                    if should_stop():
                        raise KeyboardInterrupt
                    try:
                        value = task()
                    except TrialError as error:
                        task = job.throw(error)
                    else:
                        task = job.send(value)

    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(comparison, "connected_cluster", connected_cluster)
    monkeypatch.setattr(comparison, "usable_gpus", lambda *arguments: [])
    monkeypatch.setattr("celltune.search.cluster.task_pool.run_jobs", run_jobs)
    monkeypatch.setattr("celltune.search.evaluation.evaluator.put", lambda value: value)
    monkeypatch.setattr("celltune.search.evaluation.evaluator.submit", submit)
    monkeypatch.setattr("celltune.search.runs.stop_requests._POLL_SECONDS", 0.0)


@pytest.fixture
def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The cell and number of each epoch that is trained; entries are added at its start."""
    epochs: list[tuple[str, int]] = []
    run_epoch = Trainer.run_epoch

    def recorded(trainer: Trainer, *arguments: Any) -> Any:
        epochs.append((trainer.model.config.cell, trainer.epoch + 1))
        return run_epoch(trainer, *arguments)

    monkeypatch.setattr(Trainer, "run_epoch", recorded)
    return epochs


@pytest.mark.usefixtures("in_process")
def test_models_are_trained_although_the_data_of_one_are_missing(tmp_path: Path) -> None:
    missing = {"source": "csv", "path": str(tmp_path / "missing.csv"), "test_size": 10}
    write_config(tmp_path, "broken", data=missing)
    write_config(tmp_path, "fine")
    models = load_published_models(tmp_path, scale=1.0, storage=tmp_path)
    lines: list[str] = []
    view = comparison.SilentView()
    view.message = lines.append  # type: ignore[method-assign]
    broken, fine = compare(models, seeds=2, view=view).records
    assert "missing.csv" in broken["error"]
    assert sum("broken cannot be trained" in line for line in lines) == 1
    assert (broken["measured_test_accuracy"], broken["seeds_left"]) == (None, [1, 2])
    assert (fine["error"], fine["epochs"], fine["seeds"]) == (None, [2, 2], [1, 2])
    assert 0 <= fine["measured_test_accuracy"] <= 1
    assert compare(models, seeds=2).records[1] == fine


@pytest.mark.usefixtures("in_process")
def test_every_model_has_one_seed_before_a_second_and_cheap_ones_come_first(
    tmp_path: Path, trained_epochs: list[tuple[str, int]]
) -> None:
    for name, cell, size in (("a", "lstm", 40), ("b", "gru", 20), ("c", "rnn", 4)):
        space = {**RAW["space"], "cell": cell, "hidden_size": size}
        write_config(tmp_path, name, space=space, budget={"trials": 1, "max_epochs": 1})
    models = load_published_models(tmp_path, scale=1.0, storage=tmp_path)
    done = compare(models, seeds=2)
    cells = [cell for cell, _ in trained_epochs]
    assert (cells[:3], sorted(cells[3:])) == (["rnn", "gru", "lstm"], ["gru", "lstm", "rnn"])
    assert [record["seeds"] for record in done.records] == [[1, 2]] * 3
    assert (done.left, done.reason) == ([], None)


@pytest.mark.usefixtures("in_process")
def test_a_killed_training_repeats_only_the_epoch_in_progress(
    tmp_path: Path, trained_epochs: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = {"trials": 1, "max_epochs": 4}
    uninterrupted = load_one(write_config(tmp_path, "old", budget=budget), tmp_path / "other")
    (expected,) = compare([uninterrupted]).records
    model = load_one(tmp_path / "old.yaml", tmp_path)
    trained_epochs.clear()
    run_epoch = Trainer.run_epoch

    def killed(trainer: Trainer, *arguments: Any) -> Any:
        metrics = run_epoch(trainer, *arguments)
        if trainer.epoch == 3:
            raise PowerLossError
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", killed)
        with pytest.raises(PowerLossError):
            compare([model])
    assert model.results() == {}
    assert not model.experiment.is_locked()
    (record,) = compare([model]).records
    assert [epoch for _, epoch in trained_epochs] == [1, 2, 3, 3, 4]
    timed = ("measured_seconds", "measured_cpu_seconds")
    assert {**record, **dict.fromkeys(timed)} == {**expected, **dict.fromkeys(timed)}
    assert model.state().test_reads == 1


@pytest.mark.usefixtures("in_process")
def test_seeds_that_are_trained_at_the_same_time_share_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interleaved(jobs: Iterable[Job], slots: int, should_stop: Callable[[], bool]) -> None:
        running = [(job, next(job)) for job in jobs]
        while running:
            job, task = running.pop(0)
            with suppress(StopIteration):
                running.append((job, job.send(task())))

    monkeypatch.setattr("celltune.search.cluster.task_pool.run_jobs", interleaved)
    model = load_one(write_config(tmp_path), tmp_path)
    (record,) = compare([model], seeds=3).records
    assert (record["seeds"], record["error"]) == ([1, 2, 3], None)
    assert model.state().test_reads == 3
    assert not model.experiment.is_locked()


@pytest.mark.usefixtures("in_process")
def test_comparison_stops_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    clear_stop = type(model.experiment).clear_stop

    def clear_and_request(experiment: Experiment) -> None:
        clear_stop(experiment)
        experiment.request_stop()

    monkeypatch.setattr(type(model.experiment), "clear_stop", clear_and_request)
    stopped = compare([model], seeds=2)
    assert (stopped.reason, [training.seed for training in stopped.left]) == ("interrupted", [1, 2])
    assert not model.experiment.is_locked()
    assert model.results() == {}


@pytest.mark.usefixtures("in_process")
def test_the_time_limit_ends_a_comparison(tmp_path: Path) -> None:
    write_config(tmp_path, "a")
    record_result(load_one(write_config(tmp_path, "b"), tmp_path))
    models = load_published_models(tmp_path, scale=1.0, storage=tmp_path)
    stopped = compare(models, time_limit=1e-9)
    assert stopped.reason == "time"
    assert [training.model.config.name for training in stopped.left] == ["a"]
    assert [record["seeds"] for record in stopped.records] == [[], [1]]


def test_ctrl_c_while_the_cluster_starts_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "connected_cluster", interrupted)
    assert compare([load_one(write_config(tmp_path), tmp_path)]).reason == "interrupted"


def test_the_number_of_seeds_is_checked() -> None:
    with pytest.raises(OptionError, match="`seeds` is 0; it must be at least 1"):
        compare([], seeds=0)


def test_finished_model_is_not_trained_again(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    start_training(model)
    record_failure(model, "first try")
    record_result(model)
    before = ledger_of(model).read_bytes()
    (record,) = compare([model]).records
    assert ledger_of(model).read_bytes() == before
    assert (record["reported_test_accuracy"], record["measured_test_accuracy"]) == (0.9, 1.0)
    assert record["difference_test_accuracy"] == pytest.approx(0.1)
    assert (record["measured_parameters"], record["epochs"]) == (123456, [2])
    assert (record["error"], record["spread_test_accuracy"]) == (None, None)


def test_record_has_mean_and_spread_of_the_requested_seeds(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    for seed, correct in ((1, 4), (2, 2), (3, 0)):
        record_result(model, seed=seed, seconds=10.0 * seed, correct=correct)
    (record,) = compare([model], seeds=2).records
    assert (record["seeds"], record["seeds_left"]) == ([1, 2], [])
    assert record["measured_test_accuracy"] == 0.75
    assert record["spread_test_accuracy"] == pytest.approx(0.25 * 2**0.5)
    assert record["measured_seconds"] == 15
    assert record["measured_cpu_seconds"] is None


def test_notes_explain_the_limits_of_a_comparison(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    record_result(model)
    whole = compare([model]).records
    assert not [note for note in notes(whole) if "of the documents, so" in note]
    assert not [note for note in notes(whole) if "Not finished" in note]
    assert "cover 80.0 % of the tokens of the training split" in " ".join(notes(whole))
    other = {
        **whole[0],
        "name": "new",
        "stands_in": True,
        "data": "x.csv",
        "scale": 0.1,
        "error": "it broke",
        "seeds_left": [1],
    }
    text = " ".join(notes([*whole, other]))
    assert "10 % or 100 % of the documents, so" in text
    assert "new: trained on x.csv instead of the source's data" in text
    assert "new failed: it broke" in text
    assert "Not finished: new." in text


@pytest.mark.usefixtures("in_process")
def test_failed_training_is_in_the_record_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_one(write_config(tmp_path), tmp_path)

    def diverge(*arguments: Any) -> None:
        raise TrialError("The loss is no number.")

    with monkeypatch.context() as patch:
        patch.setattr("celltune.search.evaluation.evaluator.retrain", diverge)
        failed = compare([model])
    (record,) = failed.records
    assert (record["error"], record["measured_test_accuracy"]) == ("The loss is no number.", None)
    assert [training.seed for training in failed.left] == [1]
    assert compare([model]).records[0]["error"] is None
