"""The sample config, launched as by `make search`, with its own local Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment
from tests.integration.conftest import CELLTUNE, REPOSITORY
from tests.search.assertions import assert_all_ended

# The search takes a minute, so one process runs all tests of it.
pytestmark = pytest.mark.xdist_group("sample")


@dataclass
class Sample:
    folder: LocalExperiment
    output: str
    env: dict[str, str]

    @property
    def state(self) -> ExperimentState:
        return self.folder.state()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("sample")
    env = {
        **os.environ,
        "CELLTUNE_STORAGE": str(root / "storage"),
        "CELLTUNE_CACHE": str(root / "cache"),
    }
    done = subprocess.run(
        [str(CELLTUNE), "launch", "configs/sample.yaml"],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return Sample(find_experiment("sample", root / "storage"), done.stdout, env)


def test_the_output_ends_with_a_leaderboard_and_the_next_commands(sample: Sample) -> None:
    assert "Leaderboard of sample" in sample.output
    assert "celltune leaderboard sample" in sample.output
    assert "epoch 1/6: valid_accuracy" in sample.output
    assert_all_ended(sample.state, 16)


def test_two_trials_run_at_the_same_time(sample: Sample) -> None:
    """Epochs of different trials overlap in time: two cores, and one CPU per trial."""
    spans = [
        (epoch.at - epoch.metrics["seconds"], epoch.at, trial.number)
        for trial in sample.state.trials
        for epoch in trial.epochs
    ]
    overlapping = sum(
        a[2] != b[2] and a[0] < b[1] and b[0] < a[1]
        for index, a in enumerate(spans)
        for b in spans[:index]
    )
    assert overlapping >= len(spans) // 4


def test_the_checkpoints_are_those_of_the_ledger(sample: Sample) -> None:
    state = sample.state
    assert state.count("completed") >= 1
    assert state.count("pruned") >= 4
    assert state.count("failed") == 0
    for trial in state.trials:
        best = trial.best("valid_accuracy")
        assert best is not None
        names = {
            path.name for path in (sample.folder.path / "trials" / str(trial.number)).iterdir()
        }
        assert names == {trial.epochs[-1].checkpoint, best.checkpoint}


def test_the_best_trial_beats_a_bag_of_words_by_eight_points(sample: Sample) -> None:
    """The label depends on word order, which logistic regression over counts cannot see."""
    cache = Path(sample.env["CELLTUNE_CACHE"])
    data = prepare(sample.folder.config().data, cache_dir=cache)
    best = sample.state.ranked("valid_accuracy")[0].best_value("valid_accuracy")
    assert best is not None
    assert best - bag_of_words_accuracy(data) >= 0.08
    assert best >= 0.88


def bag_of_words_accuracy(data: PreparedData) -> float:
    texts = {}
    for name, part in (("train", data.train), ("valid", data.valid)):
        ids = [part.ids[a:b] for a, b in zip(part.offsets, part.offsets[1:], strict=False)]
        texts[name] = [" ".join(f"w{number}" for number in review) for review in ids]
    vectorizer = CountVectorizer(token_pattern=r"\S+")  # noqa: S106 (not a password)
    counts = vectorizer.fit_transform(texts["train"])
    model = LogisticRegression(max_iter=2000).fit(counts, data.train.labels)
    return float(model.score(vectorizer.transform(texts["valid"]), data.valid.labels))


def test_the_next_commands_work(sample: Sample) -> None:
    def run(*arguments: str) -> str:
        command = [str(CELLTUNE), *arguments]
        return subprocess.run(
            command, env=sample.env, capture_output=True, text=True, check=True
        ).stdout

    rows: list[dict[str, Any]] = json.loads(run("leaderboard", "sample", "--format", "json"))
    assert len(rows) == 16
    assert run("status", "sample").startswith("sample: finished")
    assert "sample" in run("list")
