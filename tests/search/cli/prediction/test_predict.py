"""`celltune predict` for many texts, in this process."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from celltune.search.storage.local import LocalExperiment
from tests.search.command_line import run

GOOD, BAD = "the plot was great .", "the plot was awful ."
FIRST = "it's `one"
"""A name of a column that both YAML and a shell have to quote."""
ODD = ["", "xyzzy", "bad \udc81 byte"]
NOTES = ["contains no word", "contains no word of the model's vocabulary", "is not valid UTF-8"]

Capsys = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def place(trained: LocalExperiment, tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(place: Path) -> Path:
    path = place / "table.csv"
    path.write_text(
        "id,review,label\n"
        f"a7,{GOOD},positive\n"
        f"b8,{BAD},positive\n"
        "c9,xyzzy,negative\n"
        f"d0,{BAD},neutral\n"
        f'"e,1",{BAD},negative\n'
    )
    return path


def test_predict_prints_a_label_and_a_probability(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    _, out, _ = run(capsys, monkeypatch, "predict", "small", GOOD, "--format", "jsonl")
    (record,) = map(json.loads, out.splitlines())
    assert (record["row"], record["label"], record["note"]) == (1, "positive", "")
    assert record["probabilities"]["positive"] == record["probability"] > 0.5
    code, out, err = run(capsys, monkeypatch, "predict", "small", GOOD, BAD, "")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["label", "positive", "negative", "-"]
    assert "(contains no word)" in out
    assert "1 of 3 texts could not be classified" in err


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "jsonl", "txt"])
def test_predict_classifies_every_row_of_a_file_in_order(
    form: str, place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    texts = [GOOD, *ODD, BAD]
    content = {
        "csv": "id,body\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(texts)),
        "tsv": "id\tbody\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(texts)),
        "jsonl": "".join(f'{{"body": "{text}"}}\n' for text in texts),
        "txt": "".join(f"{text}\n" for text in texts),
    }[form.removesuffix(".gz")].encode("utf-8", "surrogateescape")
    path = place / f"reviews.{form}"
    path.write_bytes(gzip.compress(content) if form.endswith(".gz") else content)
    arguments = ["predict", "small", "--file", path, "--format", "csv"]
    arguments += [] if form == "txt" else ["--text-column", "body"]
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    # A blank line of a text file is no text, a row with an empty cell is one.
    odd = NOTES[1:] if form == "txt" else NOTES
    assert [row["row"] for row in rows] == [str(n) for n in range(1, len(odd) + 3)]
    assert [row["label"] for row in rows] == ["positive", *[""] * len(odd), "negative"]
    assert [row["note"] for row in rows] == ["", *odd, ""]
    assert [bool(row["probability"]) for row in rows] == [True, *[False] * len(odd), True]
    assert rows[0]["text"] == GOOD
    assert f"{len(odd)} of {len(rows)} texts could not be classified" in err
    assert ("1 blank line was skipped." in err) == (form == "txt")


@pytest.mark.parametrize("arguments", [["-"], ["--file", "-"]])
def test_predict_reads_standard_input_in_blocks(
    arguments: list[str], place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("celltune.search.cli.prediction.input.BLOCK_SIZE", 2)
    monkeypatch.setattr("celltune.search.bundles.predictor.TEXTS_AT_ONCE", 1)
    stream = io.TextIOWrapper(io.BytesIO(f"{GOOD}\r\n{BAD}\n\n{GOOD}".encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    code, out, err = run(capsys, monkeypatch, "predict", "small", *arguments, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == ["positive", "negative", "positive"]
    assert [row["row"] for row in rows] == ["1", "2", "3"]
    assert "1 blank line was skipped." in err


def test_columns_are_kept_and_labels_compared(
    table: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    command = ("predict", "small", "--file", table, "--label-column", "label", "--keep")
    code, out, err = run(capsys, monkeypatch, *command, "id", "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["row", "label", "probability", "note", "text", "true_label", "id"]
    assert [row["id"] for row in rows] == ["a7", "b8", "c9", "d0", "e,1"]
    assert [row["true_label"] for row in rows] == [
        "positive", "positive", "negative", "neutral", "negative",
    ]  # fmt: skip
    # Right, wrong, not classified (an error), no class of the model, right.
    assert "Accuracy 50.00 %, macro-F1" in err
    assert "on 4 texts with a label." in err
    assert "1 label of the file, such as 'neutral', is no class of the model" in err
    assert "('negative' and 'positive') and did not count." in err
    assert "The texts are those of the column 'review'." in err
    _, out, _ = run(capsys, monkeypatch, *command, "all", "--format", "jsonl")
    record = json.loads(out.splitlines()[0])
    assert (record["id"], record["file_label"], record["label"]) == ("a7", "positive", "positive")
    _, out, _ = run(capsys, monkeypatch, *command, "id")
    assert out.splitlines()[0] == "label     probability  id   text"
    assert out.splitlines()[1].endswith(f"  a7   {GOOD}")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = run(capsys, monkeypatch, *command, "id", "--top", "2")
    assert out.splitlines()[0] == "label     probability  label_2          id   text"
    _, out, _ = run(capsys, monkeypatch, "predict", "small", f"{GOOD} {GOOD} {GOOD}")
    assert 50 < len(out.rstrip()) <= 60
    assert out.endswith("…\n")


def test_the_most_probable_classes_are_shown_on_request(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    command = ("predict", "small", GOOD, "--top", 9, "--format")
    _, out, _ = run(capsys, monkeypatch, *command, "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["label"], row["label_2"]) == ("positive", "negative")
    assert float(row["probability"]) + float(row["probability_2"]) == pytest.approx(1.0)
    _, out, _ = run(capsys, monkeypatch, *command, "table")
    assert "negative 0.4" in out
    _, out, _ = run(capsys, monkeypatch, "predict", "small", GOOD, "--top", 1, "--format", "jsonl")
    assert list(json.loads(out)["probabilities"]) == ["positive"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "txt"])
def test_predictions_are_written_to_a_file(
    suffix: str, table: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("celltune.search.cli.prediction.input.BLOCK_SIZE", 2)
    command = ("predict", "small", "--file", table, "-o", f"out.{suffix}", "--keep", "id")
    code, out, err = run(capsys, monkeypatch, *command)
    assert (code, err) == (0, "")
    assert f"Wrote 5 predictions to out.{suffix}." in out
    assert "1 of 5 texts could not be classified" in out
    path = table.parent / f"out.{suffix}"
    expected = ["positive", "negative", None, "negative", "negative"]
    if suffix == "parquet":
        content = pq.read_table(path).to_pydict()
        assert content["label"] == expected
        assert content["row"] == [1, 2, 3, 4, 5]
        assert content["probability"][2] is None
        assert content["id"][-1] == "e,1"
    elif suffix == "jsonl":
        assert [json.loads(line)["label"] for line in path.read_text().splitlines()] == expected
    elif suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        assert [row["label"] or None for row in rows] == expected
    else:
        assert path.read_text().startswith("label     probability  id  text\n")
    code, _, err = run(capsys, monkeypatch, *command)
    assert code == 2
    assert f"out.{suffix} already exists" in err
    assert run(capsys, monkeypatch, *command, "--overwrite")[0] == 0


def test_a_file_that_cannot_be_read_to_its_end_leaves_no_output(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("celltune.search.cli.prediction.input.BLOCK_SIZE", 2)
    (place / "broken.jsonl").write_text(f'{{"text": "{GOOD}"}}\n' * 5 + "{\n")
    code, _, err = run(
        capsys, monkeypatch, "predict", "small", "--file", "broken.jsonl", "-o", "out.csv"
    )
    assert code == 2
    assert "line 6" in err
    assert [path.name for path in place.iterdir()] == ["broken.jsonl"]


def test_columns_that_can_contain_the_texts_are_named_with_the_option_to_paste(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    rows = [f"{GOOD} {n},{BAD} {n},{n % 3}\n" for n in range(20)]
    (place / "two.csv").write_text("".join([f"{FIRST},2,kind\n", *rows]))
    command = ["predict", "small", "--file", "two.csv", "--read", "header=true"]
    code, _, err = run(capsys, monkeypatch, *command)
    assert code == 2
    assert f"  --text-column {shlex.quote(FIRST)} - 20 different values" in err
    assert "  --text-column 2 - 20 different values" in err
    for pasted in (["--text-column", FIRST], ["--text-column", "2"]):
        assert run(capsys, monkeypatch, *command, *pasted)[0] == 0


def test_what_is_recognized_is_said_and_can_be_given(
    place: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    (place / "texts.csv").write_bytes(f"{GOOD};caf\xe9\n{BAD};na\xefve\n".encode("latin-1") * 9)
    command = ["predict", "small", "--file", "texts.csv", "--format", "csv"]
    read = ["--read", "header=false", "--read", "delimiter=;", "--text-column", "1"]
    code, out, err = run(capsys, monkeypatch, *command, *read, "--keep", "2")
    assert code == 0
    assert "texts.csv is read as windows-1252: " in err
    assert [row["2"] for row in csv.DictReader(io.StringIO(out))] == ["café", "naïve"] * 9
    _, _, err = run(capsys, monkeypatch, *command, *read, "--read", "encoding=latin-1")
    assert "is read as" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([GOOD, "--keep", "id"], "--keep was given without a table. Set --file, or omit it."),
        (["-", "--label-column", "y"], "--label-column was given without a table"),
        (["--file", "-", "--read", "header=true"], "--read was given without a table"),
        (["--file", "texts.txt", "--keep", "id"], "--keep was given, but texts.txt has no columns"),
        (["--file", "texts.txt", "--text-column", "a"], "has no columns: it contains one text per"),
        (["--file", "table.csv", "--keep", "nothing"], "has no column 'nothing'.*Set --keep to"),
        (["--file", "table.csv", "--keep", "all", "--keep", "id"], "--keep is all and names"),
        (["--file", "table.csv", "--read", "delimeter=;"], "--read is 'delimeter=;'. It must be"),
        (["--file", "table.csv", "--read", "delimiter=;;"], "--read delimiter is ';;'"),
        (["--file", "table.csv", "--format", "parquet"], "--format is parquet, which needs a file"),
        ([GOOD, "--explain", "--top", "2"], "--explain was given with --top. Omit one of them."),
        ([GOOD, "--explain", "-o", "x.csv"], "--explain was given with --output"),
        (["--file", "table.csv", "-o", "no/x.csv"], "The folder no does not exist"),
        (["--", "-o"], "cannot be classified"),
        (["-bad film"], "A text that begins with a dash needs -- before it"),
    ],
)
def test_contradictions_are_one_error(
    arguments: list[str], message: str, table: Path, capsys: Capsys, monkeypatch: Patch
) -> None:
    (table.parent / "texts.txt").write_text(f"{GOOD}\n{BAD} !\n")
    before = sorted(table.parent.rglob("*"))
    code, out, err = run(capsys, monkeypatch, "predict", "small", *arguments)
    assert (code, out) == (2, "")
    assert re.search(message, " ".join(err.split()))
    assert sorted(table.parent.rglob("*")) == before
