"""`celltune export`, `predict` and `graph` in this process."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from celltune.search.storage.local import LocalExperiment
from tests.search.cli.test_results import set_majority
from tests.search.command_line import run
from tests.search.simulated_search import RAW
from tests.search.trained_experiment import PARAMS

GOOD, BAD = "the plot was great .", "the plot was awful ."


Capsys = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def place(trained: LocalExperiment, tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_export_prints_the_model_and_the_next_command(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    code, out, err = run(capsys, monkeypatch, "export", "small", "-o", "model")
    assert (code, err) == (0, "")
    assert "Exported trial 0 of small (gru 8x1 bidirectional" in out
    assert "celltune predict ./model TEXT" in out
    code, out, _ = run(capsys, monkeypatch, "predict", "./model", GOOD)
    assert code == 0
    assert out.startswith("positive")


def test_export_labels_a_model_that_is_no_better_than_the_majority_class(
    trained: LocalExperiment, place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(place / "storage"))
    copy = LocalExperiment(shutil.copytree(trained.path, place / "storage" / "small"))
    created = copy.state().created
    assert created is not None
    set_majority(copy, 1.0, created.fingerprint)
    _, out, _ = run(capsys, monkeypatch, "export", "small", "-o", "model")
    assert re.search(r"valid_accuracy \d+\.\d\d %, no better than the majority class\.\n", out)


def test_control_sequences_are_removed_from_the_output(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    _, out, _ = run(capsys, monkeypatch, "predict", "small", "the plot was \x1b[2J great .")
    assert "\x1b" not in out
    assert "positive" in out


def test_a_long_text_is_shortened_only_in_the_table(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    text = GOOD * 20
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text)
    assert re.search(rf" {re.escape(text[:199])}…\n$", out)
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text, "--format", "csv")
    assert text in out


def test_an_error_shows_a_text_of_any_script(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    _, _, err = run(capsys, monkeypatch, "predict", "small", "这本书很好")
    assert "The text '这本书很好' cannot be classified" in err


def test_explain_shows_every_word(place: Path, capsys: Capsys, monkeypatch: Patch) -> None:
    text = "The plot was not great , xyzzy !"
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text, "--explain")
    assert re.match(r"(positive|negative) 0\.\d{4}\nProbability of '", out)
    assert "xyzzy  (unknown)" in out
    words = [line.split()[-1] for line in out.splitlines() if re.match(r" *\d+ ", line)]
    assert words == ["the", "plot", "was", "not", "great", ",", "(unknown)", "(unknown)"]
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text, "--explain", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["known"] for row in rows][-3:] == ["True", "False", "False"]
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text, "--explain", "--format", "jsonl")
    steps = [json.loads(line) for line in out.splitlines()]
    assert steps[0]["change"] is None
    assert steps[-1]["probability"] == pytest.approx(steps[-1]["label_probability"])
    for before, after in pairwise(steps):
        moved = after["probability"] - before["probability"]
        assert after["change"] == pytest.approx(moved)


def test_explain_colours_a_long_text_in_a_terminal(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    text = "the plot was great . " * 3 + "the cast was awful ."
    _, out, _ = run(capsys, monkeypatch, "predict", "small", text, "--explain")
    assert "Largest changes:" in out
    assert "\x1b[" in out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert f"{text} " in plain
    assert len(plain[plain.index("Largest changes") :].splitlines()) < 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "none", "-o", "x"], "no experiment 'none'"),
        (["export", "small", "-o", "full"], "full, a folder that is not empty"),
        (["export", "small", "-o", "x", "--trial", "7"], "is 7, but 'small' has"),
        (["export", "small", "-o", "x", "--trial", "2"], "no finished epoch"),
        (["predict", "none", GOOD], "no experiment 'none'"),
        (["predict", "./none", GOOD], "There is no bundle none"),
        (
            ["predict", "small"],
            "No text was given. Give texts, or --file, or - for standard input.",
        ),
        (["predict", "small", GOOD, "--file", "reviews.csv"], "Both texts and --file were given. "),
        (["predict", "small", ""], "cannot be classified: it contains no word"),
        (["predict", "small", "xyzzy"], "no word of the model's vocabulary"),
        (["predict", "small", GOOD, "--format", "xls"], "'xls' is not a format"),
        (
            ["predict", "small", GOOD, BAD, "--explain"],
            "--explain was given with 2 texts. Give exactly one",
        ),
        (
            ["predict", "small", "--file", "reviews.csv", "--explain"],
            "--explain was given with a file. Give exactly one text as an argument.",
        ),
        (["predict", "small", "-", "--explain"], "--explain was given with standard input. "),
        (["predict", "small", "", "--explain"], "it contains no word"),
        (["predict", "small", "--file", "none.csv"], "none.csv cannot be read"),
        (["predict", "small", "--file", "full"], "full is a folder"),
        (
            ["predict", "small", "--file", "reviews.csv", "--text-column", "txt"],
            r"no column 'txt' \(did you mean 'text'\?\).*Set --text-column to one of them",
        ),
        (["predict", "small", "--file", "nothing.txt"], "nothing.txt is empty"),
        (["graph", "none", "-o", "x.png"], "no experiment 'none'"),
        (["graph", "none.yaml", "-o", "x.png"], "none.yaml cannot be read"),
        (["graph", "small", "-o", "x.gif"], "not a picture format. .*png"),
        (["graph", "small", "-o", "there.png"], "there.png already exists"),
        (["graph", "demo.yaml", "-o", "x.png", "--trial", "1"], "has no trials"),
        (
            ["graph", "small", "-o", "x.png", "--set", "seed=2"],
            "--set can change a config",
        ),
        (["graph", "small", "-o", "x.png", "--trial", "2"], "no finished epoch"),
    ],
)
def test_invalid_input_is_one_error_with_exit_code_2(
    arguments: list[str], message: str, place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    (place / "full").mkdir()
    (place / "full" / "note").write_text("mine")
    (place / "reviews.csv").write_text(f"text\n{GOOD}\n")
    (place / "nothing.txt").write_text("")
    (place / "there.png").write_text("mine")
    (place / "demo.yaml").write_text(yaml.safe_dump(RAW))
    before = sorted(place.rglob("*"))
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("celltune: ") == 1
    assert re.search(message, err, re.DOTALL), err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_graph_draws_the_model_of_a_trial(
    form: str, place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    pytest.importorskip("matplotlib", reason="needs celltune[graph]")
    code, out, _ = run(capsys, monkeypatch, "graph", "small", "-o", f"model.{form}")
    assert code == 0
    assert f"Wrote a diagram of small, trial 0: gru 8x1 bidirectional to model.{form}" in out
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert (place / f"model.{form}").read_bytes().startswith(starts[form])


def test_graph_draws_the_model_of_a_config_with_overrides(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    pytest.importorskip("matplotlib", reason="needs celltune[graph]")
    (place / "demo.yaml").write_text(yaml.safe_dump({**RAW, "space": PARAMS}))
    arguments = ["graph", "demo.yaml", "-o", "model.png", "--set", "space.cell=mgu"]
    assert "demo: mgu 8x1 bidirectional" in run(capsys, monkeypatch, *arguments)[1]
    assert run(capsys, monkeypatch, *arguments, "--overwrite")[0] == 0


def test_explain_lists_the_ngrams_of_the_wide_part(
    wide_trials: LocalExperiment, capsys: Capsys, monkeypatch: Patch
) -> None:
    command = ("predict", "wide", GOOD, "--explain", "--trial")
    _, out, _ = run(capsys, monkeypatch, *command, 1)
    words, ngrams = out.split("Wide part, the 20 strongest of ")
    assert "Probability of 'positive' after each word (at each word, the wide part al" in words
    assert re.match(r"\d+ known n-grams: what each adds to the log-odds of 'positive':\n", ngrams)
    (shown,) = re.findall(r"([+-]0\.\d+) +words +great *\n", ngrams)
    assert float(shown) > 0
    assert re.search(r"characters +␣?\w+␣?\n", ngrams)
    assert len(ngrams.splitlines()) == 26
    assert ngrams.rstrip().endswith("(sum)")
    _, out, _ = run(capsys, monkeypatch, *command, 0)
    assert "after each word" not in out
    assert out.startswith("positive 0.")


@pytest.mark.parametrize("trial", [0, 1], ids=["only", "add"])
def test_machine_formats_of_explain_contain_words_and_ngrams(
    trial: int, wide_trials: LocalExperiment, capsys: Capsys, monkeypatch: Patch
) -> None:
    command = ("predict", "wide", GOOD, "--explain", "--trial", trial, "--format")
    _, out, _ = run(capsys, monkeypatch, *command, "jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    words = [record["word"] for record in records if "word" in record]
    assert words == (GOOD.split() if trial else [])
    ngrams = {(record["ngram"], record["kind"]) for record in records if "ngram" in record}
    assert {("great", "words"), ("was great", "words"), ("reat ", "characters")} <= ngrams
    _, out, _ = run(capsys, monkeypatch, *command, "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == [
        *("label", "label_probability"),
        *(("word", "known", "probability", "change") if trial else ()),
        *("ngram", "kind", "contribution"),
    ]
    assert len(rows) == len(records)
    assert float(rows[-1]["contribution"]) == records[-1]["contribution"]
    assert (rows[-1]["kind"], records[-1]["ngram"]) == ("intercept", None)
    assert {record["label"] for record in records} == {"positive"}
    assert {float(row["label_probability"]) for row in rows} == {records[0]["label_probability"]}


def test_graph_draws_the_wide_part(
    wide_trials: LocalExperiment, tmp_path: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    for trial in (0, 1):
        path = tmp_path / f"{trial}.svg"
        code, out, _ = run(capsys, monkeypatch, "graph", "wide", "--trial", trial, "-o", path)
        assert code == 0
        assert ("the wide part alone" in out) == (trial == 0)
        assert path.stat().st_size > 1_000


def test_export_of_the_linear_model_names_its_accuracy(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "export", "small", "--baseline", "-o", "linear")
    assert code == 0
    assert re.search(r"Exported the linear model of small to linear: validation accuracy \d", out)
    assert "the best trial (0, " in out
    assert "celltune predict ./linear TEXT" in out


@pytest.mark.parametrize("option", [("--trial", "1"), ("--onnx",)])
def test_the_linear_model_is_no_trial(
    option: tuple[str, ...], place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    code, _, err = run(
        capsys, monkeypatch, "export", "small", "--baseline", *option, "-o", "linear"
    )
    assert code == 2
    assert "--baseline exports a linear model, which is no trial and has no ONNX form." in err
    assert f"Omit {option[0]}." in err
