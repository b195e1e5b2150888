"""What each command shows of hostile text, in each of its formats."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from celltune.search.bundles.diagram import FORMATS as PICTURES
from celltune.search.cli import run as runs
from celltune.search.cli.scores import commands as scores
from celltune.search.config.loading import load_config
from celltune.search.evaluation.comparison import compare
from celltune.search.runs.launch import RunResult
from celltune.search.storage.local import LocalExperiment
from tests.search.cli.untrusted_housekeeping import config, housekeeping
from tests.search.ensemble_events import member, selected
from tests.search.evaluation.published import load_one, record_result, write_config
from tests.search.hostile_text import (
    EVERYTHING,
    HOSTILE,
    allow_any_class,
    assert_printable,
    assert_safe_html,
    assert_safe_markdown,
    assert_safe_svg,
    plotly_labels,
    shown,
)
from tests.search.simulated_search import RAW

Patch = pytest.MonkeyPatch
Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Place:
    """A folder with hostile experiments and models, and a command line to use them."""

    folder: Path
    celltune: Run
    patch: Patch
    model: LocalExperiment
    """A trained model whose classes have hostile names."""

    def text(self, *arguments: object, code: int = 0) -> str:
        """Run a command; what it prints for people must be printable."""
        actual, out, err = self.celltune(*arguments)
        assert actual == code, err
        assert_printable(out)
        assert_printable(err)
        return out + err

    def content(self, *arguments: object) -> str:
        """Run a command that prints content for programs."""
        code, out, err = self.celltune(*arguments)
        assert code == 0, err
        assert_printable(err)
        return out

    def result(self, reason: Any = "finished") -> RunResult:
        snapshot = LocalExperiment(self.folder / "storage" / "hostile").snapshot()
        return RunResult(
            LocalExperiment(self.folder / "storage" / "hostile"),
            snapshot.config,
            snapshot.state,
            reason,
        )


# ---------------------------------------------------------------------------------------------
# Cases


def launch(place: Place) -> None:
    place.patch.setattr(runs.runs, "launch", lambda *_, **__: place.result())
    out = place.text("launch", "x.yaml")
    assert shown(HOSTILE[0]) in out
    place.patch.setattr(runs.runs, "resume", lambda *_, **__: place.result("interrupted"))
    assert shown(HOSTILE[0]) in place.text("resume", "hostile", code=130)


def dry_run(place: Place) -> None:
    content = {
        **RAW,
        "data": {"source": "csv", "path": f"/none/{EVERYTHING}", "classes": ["a", "b"]},
    }
    Path("x.yaml").write_text(yaml.safe_dump(content))
    for command in (
        ["launch", "x.yaml", "--dry-run"],
        ["validate", "x.yaml"],
        ["prepare", "x.yaml"],
    ):
        assert f"/none/a {shown(HOSTILE[0])}" in place.text(*command, code=2)
    override = f"data.path={json.dumps(str(place.folder / 'reviews <b>`x`|y.csv'))}"
    content["data"]["classes"] = list(place.model.config().data.classes or ())
    Path("x.yaml").write_text(yaml.safe_dump(content))
    out = place.text("validate", "x.yaml", "--set", override, code=2)
    assert "contains a control character or a line break" in out


def init(place: Place) -> None:
    labels = ["\u202egnp.exe\u202c #x", "- [a](javascript:b): {c}"]
    rows = [(f"film {number % 5} is {number % 2}", labels[number % 2]) for number in range(60)]
    path = place.folder / "x\x1b]0;y\x07 # \u2028 z.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    out = place.text("init", path, "-o", place.folder / "mine.yaml")
    assert shown(labels[0]) in out
    written = (place.folder / "mine.yaml").read_text()
    assert_printable(written)
    data = load_config(place.folder / "mine.yaml").data
    assert sorted(data.classes or ()) == sorted(labels)
    assert data.path == path
    place.text("init", HOSTILE[0], code=2)
    place.text("init", path, "--set", f"data.label_column={json.dumps(HOSTILE[0])}", code=2)


def listing(place: Place) -> None:
    assert "hostile" in place.text("list")
    hidden = place.folder / "storage" / "x\x1b]0;y\x07"
    hidden.mkdir(exist_ok=True)
    (hidden / "experiment.yaml").write_text("x")
    place.text("list")


def status(place: Place) -> None:
    out = place.text("status", "hostile")
    for text in HOSTILE:
        assert f"failed: {shown(text)[:3_900]}" in out
    place.text("status", HOSTILE[0], code=2)


def listing_as_json(place: Place) -> None:
    listing(place)
    content = place.content("list", "--json")
    assert content.isascii()
    names = {each["name"] for each in json.loads(content)["experiments"]}
    assert {"hostile", "small"} <= names


def status_as_json(place: Place) -> None:
    content = place.content("status", "hostile", "--json")
    assert content.isascii()
    assert {each["error"] for each in json.loads(content)["failures"]} >= set(HOSTILE)


def validate_as_json(place: Place) -> None:
    path = "x\x1b]0;\u202e<b>.yaml"
    Path(path).write_text(yaml.safe_dump({**RAW, "data": {"source": "synthetic", "reviews": 40}}))
    content = place.content("validate", path, "--json")
    assert content.isascii()
    assert json.loads(content)["config"] == path


def stop(place: Place) -> None:
    place.patch.setattr(runs, "request_stop", lambda folder: None)
    place.patch.setattr(runs, "wait_until_stopped", lambda folder: None)
    place.text("stop", "hostile")


def cache(place: Place) -> None:
    assert "csv, 96 train" in place.text("cache", "list")
    place.text("cache", "clear", HOSTILE[0], code=2)


def cache_as_json(place: Place) -> None:
    content = place.content("cache", "list", "--json")
    assert content.isascii()
    documents = [each["documents"] for each in json.loads(content)["data_sets"]]
    assert {"train": 96, "valid": 24} in documents


def leaderboard(form: str) -> Callable[[Place], None]:
    def case(place: Place) -> None:
        arguments = ("leaderboard", "hostile", "--format", form)
        if form == "parquet":
            place.text(*arguments, "-o", "x.parquet")
            errors = set(pd.read_parquet("x.parquet")["error"].dropna())
        elif form == "json":
            content = place.content(*arguments)
            assert content.isascii()
            errors = {row["error"] for row in json.loads(content)} - {None}
        elif form == "csv":
            content = place.content(*arguments)
            errors = {row["error"] for row in csv.DictReader(io.StringIO(content, newline=""))} - {
                ""
            }
        else:
            HUMAN_LEADERBOARDS[form](place.text(*arguments))
            return
        assert errors == set(HOSTILE)

    return case


def table_is_safe(out: str) -> None:
    for text in HOSTILE:
        assert shown(text)[:80] in out


def markdown_is_safe(out: str) -> None:
    assert_safe_markdown(out)
    assert "evil.example" in out


def html_is_safe(out: str) -> None:
    text = assert_safe_html(out)
    for hostile in HOSTILE:
        assert shown(hostile) in text


def latex_is_safe(out: str) -> None:
    body = out.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0]
    counts = {len(re.findall(r"(?<!\\)&", line)) for line in body.split("\n")}
    assert len(counts) == 1
    assert "\\input" not in out
    assert r"\textbackslash{}input\{" in out


HUMAN_LEADERBOARDS = {
    "table": table_is_safe,
    "md": markdown_is_safe,
    "html": html_is_safe,
    "latex": latex_is_safe,
}


def report(place: Place) -> None:
    place.patch.setattr("celltune.search.report.page._plotly", lambda: "")
    place.text("report", "hostile", "-o", "x.html")
    page = Path("x.html").read_text()
    text = assert_safe_html(page)
    assert shown(HOSTILE[0]) in text
    assert text.count(shown(EVERYTHING)) >= 8
    labels = plotly_labels(page)
    assert any("&lt;script&gt;" in label for label in labels)
    for label in labels:
        assert set(re.findall(r"<[^>]*>", label)) <= {"<br>"}


def ensemble(place: Place) -> None:
    result = SimpleNamespace(
        experiment=place.model, selected=selected(member(experiment="x")), notes=(EVERYTHING,)
    )
    place.patch.setattr("celltune.search.ensembles.ensemble.ensemble", lambda *_, **__: result)
    assert shown(EVERYTHING) in place.text("ensemble", "hostile")


def evaluate(form: str) -> Callable[[Place], None]:
    def case(place: Place) -> None:
        state = place.result().state
        place.patch.setattr(scores, "run_evaluation", lambda *_, **__: state)
        if form == "table":
            assert "true \\ predicted" in place.text("evaluate", "hostile")
            return
        content = place.content("evaluate", "hostile", "--format", "json")
        assert content.isascii()
        assert json.loads(content)[0]["classes"] == [EVERYTHING, f"{EVERYTHING}2"]

    return case


def comparison(form: str) -> Callable[[Place], None]:
    def case(place: Place) -> None:
        model = load_one(write_config(Path.cwd()), Path.cwd())
        record_result(model)
        compared = compare([model])
        record = {**compared.records[0], "name": EVERYTHING, "data": HOSTILE[0], "stands_in": True}
        record |= {"error": EVERYTHING}
        compared = type(compared)([record], [], None)
        place.patch.setattr(scores, "load_published_models", lambda *_, **__: [])
        place.patch.setattr(scores, "run_comparison", lambda *_, **__: compared)
        code, out, err = place.celltune("compare", "x", "--format", form)
        assert (code, err) == (1, "")
        if form == "json":
            assert out.isascii()
            assert json.loads(out)[0]["error"] == EVERYTHING
        elif form == "csv":
            (row,) = csv.DictReader(io.StringIO(out, newline=""))
            assert row["name"] == EVERYTHING
        elif form == "md":
            assert_safe_markdown(out)
        else:
            assert_printable(out)
            assert f"{shown(EVERYTHING)} failed: {shown(EVERYTHING)}" in out

    return case


def export(place: Place) -> None:
    allow_any_class(place.patch)
    place.text("ensemble", "small", "--size", 2)
    for options in ([], ["--baseline"], ["--ensemble"]):
        name = f"{'-'.join(options)}out`<b>\u202e"
        place.text("export", "small", "-o", name, *options)
        for file in ("README.md", "DATA-TERMS.md"):
            assert_safe_markdown((Path(name) / file).read_text())
        card = (Path(name) / "README.md").read_text()
        assert card.count("evil.example") >= 4
        config = json.loads((Path(name) / "config.json").read_text())
        assert config["classes"] == [f"{EVERYTHING}-", f"{EVERYTHING}+"]


def predict(form: str) -> Callable[[Place], None]:
    def case(place: Place) -> None:
        Path("texts.jsonl").write_text(
            "".join(json.dumps({"text": f"the plot {text}"}) + "\n" for text in HOSTILE)
        )
        command = ("predict", "small", "--format", form)
        given = [f"the plot {text}" for text in HOSTILE]
        if form == "table":
            out = place.text(*command, "--file", "texts.jsonl")
            assert len(out.splitlines()) == len(HOSTILE) + 1
            assert shown(given[0]) in out
            explained = place.text(*command, "--explain", f"the plot {EVERYTHING}")
            assert "after each word:" in explained
            return
        if form == "parquet":
            place.text(*command, "--file", "texts.jsonl", "-o", "predictions.parquet")
            assert pq.read_table("predictions.parquet")["text"].to_pylist() == given
            return
        out = place.content(*command, "--file", "texts.jsonl")
        explained = place.content(*command, "--explain", f"the plot {EVERYTHING}")
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(out, newline="")))
            steps = list(csv.DictReader(io.StringIO(explained, newline="")))
        else:
            assert out.isascii()
            assert explained.isascii()
            rows = [json.loads(line) for line in out.splitlines()]
            steps = [json.loads(line) for line in explained.splitlines()]
        assert [row["text"] for row in rows] == given
        assert {row["label"] for row in rows} <= {f"{EVERYTHING}-", f"{EVERYTHING}+"}
        assert steps[0]["label"] in {f"{EVERYTHING}-", f"{EVERYTHING}+"}

    return case


def graph(form: str) -> Callable[[Place], None]:
    def case(place: Place) -> None:
        bundle = Path.cwd() / "b $x_$ <b>\x1b]0;\u202e"
        if not bundle.exists():
            place.text("export", "small", "-o", bundle)
        place.text("graph", bundle, "-o", f"x.{form}")
        content = Path(f"x.{form}").read_bytes()
        if form == "svg":
            assert_safe_svg(content)
        assert len(content) > 1_000

    return case


def export_study(place: Place) -> None:
    place.text("export-study", "hostile", "--storage", "sqlite://", "--study-name", HOSTILE[0])


CASES: dict[tuple[str, str], Callable[[Place], None]] = {
    ("launch", "text"): launch,
    ("resume", "text"): launch,
    ("stop", "text"): stop,
    ("list", "text"): listing,
    ("list", "json"): listing_as_json,
    ("status", "text"): status,
    ("init", "text"): init,
    ("status", "json"): status_as_json,
    ("validate", "json"): validate_as_json,
    ("validate", "text"): dry_run,
    ("prepare", "text"): dry_run,
    ("config explain", "text"): config,
    ("config schema", "text"): config,
    **{(name, "text"): housekeeping for name in ("delete", "prune", "copy", "du", "logs")},
    ("cache list", "text"): cache,
    ("cache list", "json"): cache_as_json,
    ("cache clear", "text"): cache,
    ("ensemble", "text"): ensemble,
    ("report", "text"): report,
    ("export-study", "text"): export_study,
    ("export", "text"): export,
    **{("evaluate", form): evaluate(form) for form in ("table", "json")},
    **{("compare", form): comparison(form) for form in ("table", "md", "csv", "json")},
    **{
        ("leaderboard", form): leaderboard(form)
        for form in (*HUMAN_LEADERBOARDS, "csv", "json", "parquet")
    },
    **{("predict", form): predict(form) for form in ("table", "csv", "jsonl", "parquet")},
    **{("graph", form): graph(form) for form in PICTURES},
}
