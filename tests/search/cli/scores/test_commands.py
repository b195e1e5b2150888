from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from celltune.search.cli.scores.evaluation import COLUMNS, cells, is_cross_fitted, notes_below
from celltune.search.errors import ExperimentError
from celltune.search.evaluation import evaluate as evaluating
from celltune.search.evaluation.evaluator import Evaluator
from celltune.search.evaluation.summaries import summaries
from celltune.search.ledger.events import EpochReported, ExperimentCreated, TrialCreated
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment
from tests.search.cli.test_app import run
from tests.search.evaluation.published import write_config
from tests.search.evaluation.test_summaries import baseline, retrained
from tests.search.simulated_search import RAW, make_config, make_controller, steps


def experiment(storage: Path, name: str, reports: int, **data: Any) -> LocalExperiment:
    """Create an experiment whose ledger contains this number of reports."""
    config = make_config(name=name, data={**RAW["data"], **data})
    folder = LocalExperiment(storage / name)
    folder.create(config, ExperimentCreated(at=1.0, fingerprint="f"))
    with folder.open_ledger() as ledger:
        running = steps(make_controller(config, ledger))
        for _ in range(reports):
            next(running)
    return folder


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "searches.yaml").write_text(yaml.safe_dump(RAW))
    (tmp_path / "published").mkdir()
    write_config(tmp_path / "published")
    experiment(tmp_path / "storage", "empty", 0, test_size=10)
    experiment(tmp_path / "storage", "testless", 9)
    experiment(tmp_path / "storage", "changed", 9, test_size=10)
    return tmp_path / "storage"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "none"], "no experiment 'none'"),
        (["evaluate", "empty"], r"no trial has finished \(0 started, 0 failed\)"),
        (["evaluate", "testless"], r"the config defines no test split\. Set data\.test_path"),
        (["evaluate", "changed"], "The data of the experiment 'changed' has changed"),
        (["evaluate", "changed", "--on", "valid"], "--on is 'valid'.*train, train.valid"),
        (["evaluate", "changed", "--format", "csv"], "'csv' is not a format.*table, json"),
        (["compare", "none.yaml"], "none.yaml cannot be read: No such file"),
        (["compare", "."], "has no section 'published'"),
        (["compare", ".", "--only", "search"], "Did you mean 'searches'"),
        (["compare", ".", "--format", "html"], "'html' is not a format"),
        (
            ["compare", "published", "--time-budget", "2 weeks"],
            "--time-budget is '2 weeks'. It must",
        ),
    ],
)
def test_invalid_input_is_one_error_with_exit_code_2(
    arguments: list[str],
    message: str,
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {path: path.read_bytes() for path in storage.rglob("*.*") if path.is_file()}
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert err.count("celltune: ") == 1
    assert "Traceback" not in err
    assert re.search(message, err, re.DOTALL), err
    assert {path: path.read_bytes() for path in storage.rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("scale", ["0", "1.5", "x"])
def test_compare_rejects_an_invalid_scale(
    scale: str,
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, _, err = run(capsys, monkeypatch, "compare", ".", "--scale", scale)
    assert code == 2
    assert "--scale" in err


def test_ctrl_c_prints_the_command_to_continue(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluating, "_prepare_data", cut)
    arguments = ["testless", "--seeds", 2, "--no-baselines", "--set", "retries=1"]
    code, _, err = run(capsys, monkeypatch, "evaluate", *arguments)
    assert code == 130
    assert err.splitlines()[-1] == (
        "Interrupted. Finished evaluations are saved; continue with: celltune evaluate testless "
        "--seeds 2 --no-baselines --set retries=1"
    )


def test_evaluate_rejects_a_changed_test_split(storage: Path) -> None:
    folder = find_experiment("changed", storage)
    data: Any = SimpleNamespace(classes=("neg", "pos"), info={})
    test: Any = SimpleNamespace(fingerprint="other", split=[])
    for event in (retrained(0, 1, 300), baseline("nb_svm", 300)):
        with folder.open_ledger() as ledger:
            ledger.append(event)
            with pytest.raises(
                ExperimentError,
                match=r"has changed: its fingerprint is .*, but",
            ):
                Evaluator(
                    folder,
                    make_config(),
                    ledger,
                    data,
                    test,
                    message=lambda _: None,
                )


@pytest.mark.parametrize(("reason", "expected"), [("interrupted", 130), ("time", 0)])
def test_stopped_comparison_prints_results_and_the_command_that_continues(
    reason: str,
    expected: int,
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("celltune.search.evaluation.comparison._train", lambda *arguments: reason)
    arguments = ["compare", "published", "--seeds", "2", "--time-budget", "2h", "--format", "json"]
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == expected
    assert json.loads(out)[0]["seeds_left"] == [1, 2]
    assert "0 of 2 trainings are done.\nLeft: old with seed 1, old with seed 2." in err
    assert f"Continue with: celltune {' '.join(arguments)}" in err


def test_the_training_accuracy_of_the_wide_part_alone_is_marked() -> None:
    state = ExperimentState()
    for number, params in enumerate(({"wide": "only"}, {"cell": "gru"})):
        state.apply(TrialCreated(at=1.0, number=number, params=params, max_epochs=1))
        metrics = {"valid_accuracy": 0.5, "valid_loss": 0.5}
        epoch = EpochReported(at=1.0, number=number, epoch=1, metrics=metrics, checkpoint=None)
        state.apply(epoch)
        state.apply(retrained(number, 1, 300))
    state.apply(baseline("nb_svm", 300))
    records = summaries(state, "valid_accuracy")
    column = COLUMNS.index("train")
    marked = [cells(record)[column].endswith("%*") for record in records]
    assert [record["name"] for record in records if is_cross_fitted(record)] == [
        "trial 0: the wide part alone"
    ]
    assert marked == [is_cross_fitted(record) for record in records]
    note = "* Accuracy on training documents, each by a model that was fitted without it."
    assert notes_below(records) == [note]
    assert notes_below(records[1:]) == []
