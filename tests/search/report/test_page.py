from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from celltune.search.evaluation.summaries import verdict
from celltune.search.ledger.events import (
    BudgetChanged,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    WarmStarted,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.figures import (
    importances,
    learning_curves,
    parallel_coordinates,
    rungs,
    slices,
)
from celltune.search.report.page import page
from celltune.search.report.subject import Subject, subject_of
from celltune.search.storage.local import LocalExperiment
from tests.search.evaluation.test_summaries import baseline, retrained, searched
from tests.search.results.test_ranking import state_of
from tests.search.support import finished_search, make_config


def subject(config: Any, state: ExperimentState) -> Subject:
    return Subject("demo", config, [], state)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> LocalExperiment:
    config = make_config(budget={"trials": 16, "max_epochs": 4})
    return finished_search(tmp_path_factory.mktemp("report"), config)


@pytest.fixture(scope="module")
def written(demo: LocalExperiment) -> str:
    return page(subject_of(demo))


class _Outline(HTMLParser):
    """What a page is made of, as a reader of its HTML sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.text.append(data)


def read(text: str) -> tuple[_Outline, str]:
    outline = _Outline()
    outline.feed(text)
    return outline, " ".join(" ".join(outline.text).split())


def test_the_page_holds_every_section(written: str) -> None:
    outline, said = read(written)
    assert [tag for tag, _ in outline.tags].count("h2") == 5
    assert [tag for tag, _ in outline.tags].count("h1") == 1
    for title in ("Learning curves", "What each hyperparameter did", "Cost", "Leaderboard"):
        assert title in said
    assert said.count("after all 4 epochs") >= 1
    assert "Early stopping left out" in said
    assert "learning_rate:" in said
    assert "Versions: celltune 1, python 3" in said


def test_the_page_needs_no_network(written: str) -> None:
    outline, _ = read(written)
    for tag, attributes in outline.tags:
        assert "src" not in attributes, tag
        assert not (attributes.get("href") or "#").startswith("http"), attributes
        assert tag not in ("link", "iframe", "object")
    policy = next(a["content"] for t, a in outline.tags if a.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'")
    assert "http" not in (policy or "")


def test_the_page_is_read_aloud_too(written: str) -> None:
    outline, _ = read(written)
    assert ("html", {"lang": "en"}) in outline.tags
    figures = [attributes for tag, attributes in outline.tags if attributes.get("role") == "img"]
    assert len(figures) == 4
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in figures)
    assert all(attributes.get("scope") for tag, attributes in outline.tags if tag == "th")


def test_the_headline_says_how_sure_it_is(demo: LocalExperiment) -> None:
    about = subject_of(demo)
    _, said = read(page(about))
    best = about.state.ranked("valid_accuracy")[0]
    assert f"The best of 16 trials is trial {best.number}: " in said
    assert "doesn't say how many reviews were validated on: no interval" in said
    assert "a selected maximum, which flatters" in said
    about.state.created = ExperimentCreated(at=0.0, fingerprint="f", valid_reviews=400)
    _, said = read(page(about))
    assert re.search(r"counted on 400 validation reviews: its 95 % interval is \d\d.\d to", said)


def failed_state() -> ExperimentState:
    state = ExperimentState([ExperimentCreated(at=0.0, fingerprint="f", valid_reviews=100)])
    for number in range(2):
        state.apply(TrialCreated(at=1.0, number=number, params={"cell": "gru"}, max_epochs=4))
        state.apply(TrialFailed(at=2.0, number=number, error="<script>alert(1)</script>"))
    return state


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (ExperimentState(), "No trial of this search has finished an epoch yet"),
        (failed_state(), "All 2 trials failed."),
    ],
)
def test_a_search_without_a_result_gives_an_honest_page(state: ExperimentState, told: str) -> None:
    text = page(subject(make_config(), state))
    _, said = read(text)
    assert told in said
    assert "Nothing is drawn: 0 measured trials can't tell." in said
    assert "<script>alert" not in text
    assert len(text) < 20_000


def test_a_single_trial_is_no_maximum_of_many(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 1, "max_epochs": 2}, early_stopping=None)
    _, said = read(page(subject_of(finished_search(tmp_path, config))))
    assert "The best of 1 trial is trial 0" in said
    assert "selected maximum" not in said
    assert "Nothing is drawn: 1 measured trials can't tell." in said
    assert "There was no early stopping." in said
    assert "Early stopping was off" in said


def test_whether_the_same_trials_come_again_is_told_as_it_is(tmp_path: Path) -> None:
    plain = finished_search(tmp_path / "plain", make_config()).events()
    budget = make_config().budget.model_dump(include={"trials", "max_epochs", "target", "patience"})
    changed = BudgetChanged(at=2.0, **budget, extended=[], retried=[])
    warm = WarmStarted(
        at=0.0, origin="older", trials=[], outside=0, parameters_left_out=[], same_data=True
    )
    for events, words in (
        (plain, "With one trial at a time the same trials are proposed"),
        ([*plain, changed], "Other trials may be proposed: its budget was changed"),
        ([plain[0], warm, *plain[1:]], "this search knew those of 'older'"),
    ):
        _, said = read(page(subject(make_config(), ExperimentState(events))))
        assert words in said


def test_a_page_of_a_running_search_says_so(demo: LocalExperiment) -> None:
    with demo.locked():
        assert "still running" in page(subject_of(demo))


def test_the_curves_hold_every_epoch_and_rung(demo: LocalExperiment) -> None:
    about = subject_of(demo)
    figure = learning_curves(about.config, about.state)
    points = sum(x is not None for trace in figure.data[:-1] for x in trace.x)
    assert points == sum(trial.epochs_done for trial in about.state.trials)
    assert rungs(about.config) == [1, 2]
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 2]


def test_importances_compare_like_with_like(demo: LocalExperiment) -> None:
    about = subject_of(demo)
    found = importances(about.config, about.state)
    completed = about.state.count("completed")
    assert next(iter(found)) == "all trials after epoch 1 (16)"
    assert [f"({completed})" in name for name in found][1:] == [True] * (completed >= 10)
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1.0)


def test_importance_is_not_drawn_where_the_best_are_equal() -> None:
    trials = [({"cell": cell, "learning_rate": 0.01}, [0.9], "completed") for cell in ("gru",) * 12]
    config = make_config(early_stopping=None)
    assert importances(config, state_of(*trials)) == {}
    _, said = read(page(subject(config, state_of(*trials))))
    assert "No importance is drawn: too few trials, or the best are equal." in said
    assert "11 other trials reached the same value; the earliest is named." in said


def test_every_trial_is_on_every_axis(demo: LocalExperiment) -> None:
    about = subject_of(demo)
    (trace,) = parallel_coordinates(about.config, about.state).data
    axes = {axis.label: axis for axis in trace.dimensions}
    assert list(axes) == [*about.config.space.searched, "valid_accuracy"]
    assert all(len(axis["values"]) == 16 for axis in axes.values())
    assert "not active" in axes["layer_dropout"].ticktext
    drawn = slices(about.config, about.state)
    single = sum(trial.params["num_layers"] == 1 for trial in about.state.trials)
    assert sum(len(trace.x) for trace in drawn.data) == 16 * 5 - single


def test_what_was_measured_on_the_test_split_is_told_with_its_uncertainty() -> None:
    state = searched(*(retrained(0, seed, 7) for seed in (1, 2)), baseline("nb_svm", 5))
    outline, said = read(page(subject(make_config(), state)))
    assert "On the test split, trained anew with 2 seeds, trial 0 is right on" in said
    assert "95 % interval" in said
    assert verdict(state, "valid_accuracy") in said
    assert said.count("Confusion matrix:") == 4
    assert "One seed each" not in said
    assert [tag for tag, _ in outline.tags].count("details") >= 4
