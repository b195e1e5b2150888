from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from celltune.search.cli.options import describe_next_step
from celltune.search.ledger.codec import encode
from celltune.search.ledger.events import BaselineValidated, ExperimentCreated
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import find_experiment
from tests.search.command_line import run
from tests.search.simulated_search import finished_search, make_config

Celltune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.chdir(tmp_path)
    finished_search(tmp_path / "storage", make_config())
    return tmp_path / "storage"


@pytest.fixture
def demo(storage: Path) -> LocalExperiment:
    return find_experiment("demo", storage)


@pytest.fixture
def celltune(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Celltune:
    return partial(run, capsys, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leaderboard", "none"], "no experiment 'none'"),
        (["leaderboard", "demo", "dmo"], "no experiment 'dmo'.*Did you mean 'demo'"),
        (["leaderboard", "demo", "--metric", "acc"], "'acc' is not a metric"),
        (["leaderboard", "demo", "--format", "xls"], "'xls' is not a leaderboard format"),
        (
            ["leaderboard", "demo", "--format", "parquet"],
            "binary format. Set --output to a file",
        ),
        (["leaderboard", "demo", "-o", "board.xls"], "'xls' is not a leaderboard format"),
        (["leaderboard", "demo", "-o", "there.csv"], "there.csv already exists.*--overwrite"),
        (["leaderboard", "demo", "-o", "none/board.csv"], "folder none does not exist"),
        (["leaderboard", "demo", "-o", "storage", "--format", "csv"], "storage is a folder"),
        (["leaderboard", "demo", "--sort", "celll"], "Did you mean 'cell'"),
        (["leaderboard", "demo", "--best-per", "celll"], "Did you mean 'cell'"),
        (["leaderboard", "demo", "--where", "celll == 1"], "Did you mean 'cell'"),
        (["leaderboard", "demo", "--where", "cell = 1"], "syntax error at character"),
        (["report", "none"], "no experiment 'none'"),
        (["report", "demo", "-o", "there.csv"], "there.csv already exists.*--overwrite"),
        (["report", "demo", "-o", "none/page.html"], "folder none does not exist"),
        (["export-study", "dmo", "--storage", "sqlite:///x.db"], "Did you mean 'demo'"),
        (["export-study", "demo", "--storage", "x.db"], "'x.db' cannot be used"),
    ],
)
def test_invalid_input_is_one_error_with_exit_code_2(
    arguments: list[str], message: str, celltune: Celltune, storage: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = celltune(*arguments)
    assert code == 2
    assert out == ""
    assert err.count("celltune: ") == 1
    assert "Traceback" not in err
    assert re.search(message, err, re.DOTALL), err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_leaderboard_sorts_filters_and_limits(celltune: Celltune) -> None:
    options = ["--where", "cell == 'gru'", "--sort", "-hidden_size", "--top", 2]
    code, out, _ = celltune("leaderboard", "demo", *options, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert [row["cell"] for row in rows] == ["gru", "gru"]
    assert rows[0]["hidden_size"] >= rows[1]["hidden_size"]
    _, out, _ = celltune("leaderboard", "demo", "--best-per", "cell", "--format", "json")
    assert sorted(row["cell"] for row in json.loads(out)) == ["gru", "lstm"]


def test_leaderboard_ranks_several_experiments(celltune: Celltune, storage: Path) -> None:
    finished_search(storage, make_config(name="other", seed=4))
    code, out, err = celltune("leaderboard", "demo", "other")
    assert code == 0
    assert err == ""
    *table, common = out.splitlines()
    assert len(table) == 2 + 24
    assert common == "The same in all of these trials: embedding_size 8."
    assert {"demo", "other"} <= set(out.split())


def test_leaderboard_warns_about_different_data(celltune: Celltune, storage: Path) -> None:
    finished_search(storage, make_config(name="other"))
    ledger = storage / "other" / "ledger.jsonl"
    lines = ledger.read_bytes().split(b"\n")
    lines[0] = encode(0, ExperimentCreated(at=1.0, fingerprint="else")).rstrip(b"\n")
    ledger.write_bytes(b"\n".join(lines))
    code, out, err = celltune("leaderboard", "demo", "other", "--format", "csv")
    assert code == 0
    assert out.startswith("experiment,data,rank")
    assert "used different data" in err


@pytest.mark.parametrize("name", ["board.csv", "board.parquet", "board.txt", "board.html"])
def test_leaderboard_does_not_overwrite_files(name: str, celltune: Celltune) -> None:
    code, out, _ = celltune("leaderboard", "demo", "-o", name)
    assert (code, out) == (0, f"Wrote {name}\n")
    first = Path(name).read_bytes()
    assert len(first) > 100
    assert celltune("leaderboard", "demo", "-o", name)[0] == 2
    assert celltune("leaderboard", "demo", "-o", name, "--top", 1, "--overwrite")[0] == 0
    assert len(Path(name).read_bytes()) < len(first)
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_report_is_one_file_and_is_not_overwritten(celltune: Celltune) -> None:
    code, out, _ = celltune("report", "demo")
    assert code == 0
    assert re.fullmatch(r"Wrote demo.html \(\d\.\d MB\)\n", out)
    assert Path("demo.html").read_text().startswith("<!DOCTYPE html>")
    assert celltune("report", "demo")[0] == 2


def test_export_study_rejects_an_existing_study(celltune: Celltune) -> None:
    options = ["--storage", "sqlite:///study.db", "--study-name", "mine"]
    code, out, _ = celltune("export-study", "demo", *options)
    assert code == 0
    assert out.endswith("optuna-dashboard sqlite:///study.db\n")
    code, _, err = celltune("export-study", "demo", *options)
    assert code == 2
    assert "already contains a study 'mine'" in err


def test_a_full_disk_is_reported(celltune: Celltune, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(handle: int, mode: str) -> object:
        if mode == "rb":
            return real(handle, mode)
        os.close(handle)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("celltune.search.cli.output.os.fdopen", full)
    code, _, err = celltune("leaderboard", "demo", "-o", "board.csv")
    assert code == 2
    assert "board.csv cannot be written: No space left on device" in err
    assert not list(Path().glob(".board*"))


def test_leaderboard_imports_no_heavy_library(storage: Path) -> None:
    code = (
        "import sys; from celltune.search.cli.app import app\n"
        "try:\n    app(['leaderboard', 'demo'])\n"
        "finally:\n    print(*({'ray', 'torch', 'optuna', 'pandas', 'pyarrow', 'plotly'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "accuracy" in done.stdout
    assert done.stderr.strip() == ""


def test_leaderboard_says_that_no_trial_matches(celltune: Celltune) -> None:
    code, out, err = celltune("leaderboard", "demo", "--where", "cell == 'none'", "--format", "csv")
    assert code == 0
    assert len(out.splitlines()) <= 1
    assert err == "No trial matches the filter.\n"


def set_majority(folder: LocalExperiment, accuracy: float | None, fingerprint: str = "f") -> None:
    """Replace the first event of a ledger by one with a majority class; None: without one."""
    created = ExperimentCreated(
        at=1.0,
        fingerprint=fingerprint,
        majority_class=None if accuracy is None else "neg",
        majority_accuracy=accuracy,
    )
    lines = folder.ledger.read_bytes().splitlines(keepends=True)
    folder.ledger.write_bytes(b"".join([encode(0, created), *lines[1:]]))


def test_trials_that_are_no_better_than_the_majority_class_are_labelled(
    demo: LocalExperiment, celltune: Celltune
) -> None:
    assert "majority" not in celltune("leaderboard", "demo")[1]
    set_majority(demo, 1.0)
    _, out, _ = celltune("leaderboard", "demo")
    sentence = "Always predicting the majority class 'neg' has a validation accuracy of 100.00 %."
    assert out.rstrip().endswith(sentence)
    assert out.count("%  * ") == 12
    assert out.count("\n* no better than the majority class\n") == 1
    celltune("leaderboard", "demo", "-o", "demo.txt")
    assert Path("demo.txt").read_text().endswith("\n* no better than the majority class\n")
    _, out, _ = celltune("leaderboard", "demo", "--where", "note == None", "--format", "json")
    assert json.loads(out) == []
    _, out, _ = celltune("status", "demo")
    assert re.search(r"best valid_accuracy: .* % \(trial \d+, no better than the majority", out)
    assert sentence in out


def test_majority_classes_of_different_data_are_told_apart(
    demo: LocalExperiment, storage: Path, celltune: Celltune
) -> None:
    other = finished_search(storage, make_config(name="other"))
    set_majority(demo, 0.5)
    set_majority(other, 0.6, "g")
    _, out, _ = celltune("leaderboard", "demo", "other")
    assert "Data f: Always predicting the majority class 'neg' has a validation" in out
    assert "Data g: Always predicting the majority class 'neg' has a validation" in out
    set_majority(other, 0.5)
    _, out, _ = celltune("leaderboard", "demo", "other")
    assert out.count("Always predicting the majority class 'neg' has a validation") == 1


def test_the_majority_class_is_shown_if_one_of_the_searches_has_recorded_it(
    demo: LocalExperiment, storage: Path, celltune: Celltune
) -> None:
    older = finished_search(storage, make_config(name="older"))
    set_majority(demo, 0.5)
    set_majority(older, None)
    _, out, _ = celltune("leaderboard", "demo", "older")
    assert out.rstrip().endswith("has a validation accuracy of 50.00 %.")


def add_baseline(folder: LocalExperiment, accuracy: float) -> None:
    with folder.open_ledger() as ledger:
        ledger.append(
            BaselineValidated(
                at=9.0, name="nb_svm", valid_accuracy=accuracy, valid_macro_f1=0.5, seconds=1.0
            )
        )


def test_the_best_trial_is_compared_with_the_best_baseline(
    demo: LocalExperiment, celltune: Celltune
) -> None:
    before = celltune("leaderboard", "demo", "--format", "csv")[1]
    set_majority(demo, 0.5)
    add_baseline(demo, 0.999)
    for command in (("leaderboard", "demo"), ("leaderboard", "demo", "--format", "md")):
        out = " ".join(celltune(*command)[1].split())
        assert "Always predicting the majority class" in out
        assert "points worse than the best linear model (nb_svm, 99.90 %)" in out
    assert "worse than the best linear model" in celltune("status", "demo")[1]
    assert celltune("leaderboard", "demo", "--format", "csv")[1] == before
    assert "set data.wide to true" in celltune("status", "demo")[1]
    assert "celltune export" not in celltune("status", "demo")[1]


def test_the_command_that_exports_the_wide_part_is_named_if_it_is_better(
    wide_trials: LocalExperiment,
) -> None:
    config, state = wide_trials.config(), wide_trials.state()
    wide = state.trials[0].epochs[0]
    state.trials[1].epochs[:] = [
        wide.model_copy(
            update={
                "metrics": {
                    "valid_accuracy": wide.metrics["valid_accuracy"] - 0.1,
                    "valid_loss": wide.metrics["valid_loss"] - 0.1,
                    "wide_gain": 0.1,
                    "wide_gain_error": 0.01,
                }
            }
        )
    ]
    by_loss = config.model_copy(update={"metric": "valid_loss"})
    _, command = describe_next_step(wide_trials, by_loss, state)
    assert command == "Export the wide part alone: celltune export wide --baseline -o DIR"
    assert describe_next_step(wide_trials, config, state) == []


def test_each_search_is_compared_with_its_own_baseline(
    demo: LocalExperiment, tmp_path: Path, celltune: Celltune
) -> None:
    other = finished_search(demo.path.parent, make_config(name="other"))
    add_baseline(demo, 0.999)
    add_baseline(other, 0.1)
    out = " ".join(celltune("leaderboard", "demo", "other")[1].split())
    assert re.search(r"demo: The best trial is \S+ points worse than", out)
    assert re.search(r"other: The best trial is \S+ points better than", out)


def test_a_finished_run_ends_with_the_leaderboard_and_what_its_trials_share(
    celltune: Celltune,
) -> None:
    code, out, _ = celltune("resume", "demo")
    assert code == 0
    assert "Leaderboard of demo, by valid_accuracy (best 10 of 12):" in out
    assert "The same in all of these trials: embedding_size 8" in out
