"""`celltune evaluate` in a process of its own, in the shared local Ray cluster."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.evaluation.summaries import summaries
from celltune.search.ledger.events import BaselineReported, EvaluationReported, ExperimentCreated
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import CELLTUNE, Run, start, wait_until
from tests.search.simulated_search import RAW, make_config, make_controller, steps
from tests.search.trained_experiment import make_experiment

DATA = {"source": "synthetic", "reviews": 500, "max_tokens": 40, "test_size": 0.2}


@pytest.fixture
def experiment(env: dict[str, str], shared_cache: Path) -> LocalExperiment:
    """A finished search of three small trials, with a ledger but no checkpoints."""
    config = make_config(
        name="judged",
        data=DATA,
        space={**RAW["space"], "hidden_size": {"low": 4, "high": 8}},
        budget={"trials": 3, "max_epochs": 2},
    )
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "judged")
    data = prepare(config.data, cache_dir=shared_cache)
    folder.create(config, ExperimentCreated(at=0.0, fingerprint=data.fingerprint))
    with Ledger(folder.ledger) as ledger:
        list(steps(make_controller(config, ledger)))
    return folder


def measured(folder: LocalExperiment) -> list[tuple[int, int]]:
    return [(e.number, e.seed) for e in read(folder.ledger) if isinstance(e, EvaluationReported)]


def kill_after(
    folder: LocalExperiment, command: list[str], env: dict[str, str], count: int
) -> None:
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(measured(folder)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)


def test_a_killed_evaluation_continues_without_repeating_measurements(
    experiment: LocalExperiment, env: dict[str, str], address: str, command: Run
) -> None:
    arguments = ["evaluate", "judged", "--address", address, "--top", "2", "--seeds", "3"]
    kill_after(experiment, [str(CELLTUNE), *arguments], env, 2)
    before = read(experiment.ledger)
    assert 2 <= len(measured(experiment)) < 6

    done = command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(experiment.ledger)[: len(before)] == before
    leaders = {number for number, _ in measured(experiment)}
    assert len(leaders) == 2
    assert sorted(measured(experiment)) == [
        (n, seed) for n in sorted(leaders) for seed in (1, 2, 3)
    ]
    state = experiment.state()
    names = [e.name for e in read(experiment.ledger) if isinstance(e, BaselineReported)]
    assert sorted(names) == ["nb_svm", "tfidf_char_logistic", "tfidf_logistic"]
    # Each of the 9 models read the test split once; up to 2 more were killed during that.
    assert 9 <= state.test_reads <= 11
    assert f"The test split was read {state.test_reads} times" in done.stdout
    assert "Confusion matrices of trial" in done.stdout
    assert not list(experiment.path.glob("trials/*/evaluation-*"))

    content = experiment.ledger.read_bytes()
    again = command(*arguments, "--format", "json")
    assert json.loads(again.stdout) == summaries(state, "valid_accuracy")
    assert experiment.ledger.read_bytes() == content


def test_a_second_evaluation_adds_to_the_first(
    experiment: LocalExperiment, address: str, command: Run
) -> None:
    base = ["evaluate", "judged", "--address", address, "--top", "1", "--no-baselines"]
    for more in (["--seeds", "1"], ["--seeds", "1", "--on", "train+valid"]):
        done = command(*base, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    state = experiment.state()
    counts = Counter(event.on for event in state.evaluations)
    assert counts == {"train": 1, "train+valid": 1}
    assert state.baselines == []
    assert state.test_reads == 2
    best = max(trial.best_value("valid_accuracy") or 0.0 for trial in state.trials)
    (leader,) = {event.number for event in state.evaluations}
    assert state.trials[leader].best_value("valid_accuracy") == best
    joint = next(
        record for record in summaries(state, "valid_accuracy") if record["on"] == "train+valid"
    )
    chosen = state.trials[leader].best("valid_accuracy")
    assert chosen is not None
    assert joint["epochs"] == [chosen.epoch]


def test_an_ensemble_of_stored_models_reads_the_test_split_once(
    env: dict[str, str], shared_cache: Path, address: str, command: Run
) -> None:
    folder = make_experiment(Path(env["CELLTUNE_STORAGE"]), shared_cache, test_size=60)
    arguments = ["evaluate", folder.name, "--address", address, "--no-baselines", "--ensemble"]
    rejected = command(*arguments)
    assert rejected.returncode == 2
    assert "has no ensemble" in rejected.stderr
    assert command("ensemble", folder.name).returncode == 0
    for _ in range(2):
        done = command(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Confusion matrices of ensemble of 8 (" in done.stdout
        assert "The test split was read 1 time in this experiment" in done.stdout
    state = folder.state()
    assert state.ensemble_scores is not None
    assert sum(map(sum, state.ensemble_scores.test_confusion)) == 60
    assert state.evaluations == []


def test_a_running_search_cannot_be_evaluated(
    experiment: LocalExperiment, address: str, command: Run
) -> None:
    before = experiment.ledger.read_bytes()
    with experiment.locked():
        rejected = command("evaluate", "judged", "--address", address)
    assert rejected.returncode == 2
    assert "'judged' is being run by another process" in rejected.stderr
    assert experiment.ledger.read_bytes() == before


PUBLISHED = {
    "data": DATA,
    "baselines": False,
    "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
    "published": {"source": "A paper", "reported": {"test_accuracy": 0.9}},
}


def test_a_killed_comparison_keeps_results_and_continues_after_the_last_epoch(
    env: dict[str, str], address: str, command: Run, tmp_path: Path
) -> None:
    for name, epochs in (("a", 1), ("b", 100_000)):
        budget = {"trials": 1, "max_epochs": epochs}
        content = {**PUBLISHED, "name": name, "budget": budget}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content))
    arguments = ["compare", tmp_path, "--address", address, "--format", "json"]
    arguments += ["--set", "resources.concurrent_trials=1"]
    process = start(env, *arguments)
    compared = Path(env["CELLTUNE_STORAGE"]) / "compared"
    wait_until(lambda: any(compared.glob("b-*/trials/0/evaluation-1-train-last/state.json")))
    process.kill()
    process.communicate(timeout=60)
    (first,), (second,) = (list(compared.glob(f"{name}-*")) for name in "ab")
    finished = read(first / "ledger.jsonl")
    assert measured(LocalExperiment(first)) == [(0, 1)]
    assert measured(LocalExperiment(second)) == []

    # No machine trains so many epochs before the limit is reached.
    limited = command(*arguments, "--time-budget", "1s")
    assert limited.returncode == 0, limited.stderr
    a, b = json.loads(limited.stdout)
    assert (a["seeds"], b["seeds"], b["seeds_left"]) == ([1], [], [1])
    assert read(first / "ledger.jsonl") == finished
    assert "The time limit was reached. 1 of 2 trainings are done." in limited.stderr
    assert re.search(r"Left: b with seed 1 \(\d+ of 100,000 epochs done", limited.stderr)


def test_a_comparison_stops_on_the_request_of_another_process(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**PUBLISHED, "name": "old", "budget": {"trials": 1, "max_epochs": 1000}}
    (tmp_path / "old.yaml").write_text(json.dumps(config))
    clear_stop = LocalExperiment.clear_stop

    def clear_and_request(folder: LocalExperiment) -> None:
        clear_stop(folder)
        folder.request_stop()

    monkeypatch.setattr(LocalExperiment, "clear_stop", clear_and_request)
    stopped = command("compare", tmp_path / "old.yaml")
    assert stopped.returncode == 130
    assert "Stopping, as another process requested" in stopped.stdout
