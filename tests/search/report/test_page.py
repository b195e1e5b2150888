from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from celltune.search.config.schema import SearchConfig
from celltune.search.evaluation.summaries import verdict
from celltune.search.ledger.events import (
    BaselineValidated,
    BudgetChanged,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    WarmStarted,
    WorkerLost,
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
from celltune.search.report.top import tiles
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.snapshot import Snapshot
from tests.search.ensemble_events import member, selected
from tests.search.evaluation.test_summaries import baseline, retrained, searched
from tests.search.results.test_ranking import state_of, with_majority
from tests.search.simulated_search import RAW, finished_search, make_config


def snapshot(config: SearchConfig, state: ExperimentState) -> Snapshot:
    return Snapshot("demo", config, [], state, running=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> LocalExperiment:
    config = make_config(budget={"trials": 16, "max_epochs": 4})
    return finished_search(tmp_path_factory.mktemp("report"), config)


@pytest.fixture(scope="module")
def report(demo: LocalExperiment) -> str:
    return page(demo.snapshot())


class _Outline(HTMLParser):
    """The tags and the visible text of a page."""

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


def test_page_contains_every_section(report: str) -> None:
    outline, visible = read(report)
    assert [tag for tag, _ in outline.tags].count("h2") == 5
    assert [tag for tag, _ in outline.tags].count("h1") == 1
    for title in ("Learning curves", "Hyperparameters", "Cost", "Leaderboard"):
        assert title in visible
    assert visible.count("after all 4 epochs") >= 1
    assert "Early stopping saved" in visible
    assert "learning_rate:" in visible
    assert "Versions: celltune 1, python 3" in visible


def test_long_leaderboard_is_collapsed_and_complete() -> None:
    values = [[0.4, 0.45, 0.5 + number / 100] for number in range(30)]
    trials = [({"cell": "gru"}, accuracies, "completed") for accuracies in values]
    text = page(snapshot(make_config(), state_of(*trials)))
    outline, visible = read(text)
    assert "Show 5 more trials" in visible
    assert visible.count("after all 3 epochs") == 30
    assert [tag for tag, _ in outline.tags].count("details") == 2  # and the uncertainty


def test_leaderboard_shows_the_wide_part_alone_and_what_first_trials_vary() -> None:
    config = make_config(
        data={**RAW["data"], "wide": True},
        space={"wide": "add", "cell": ["gru", "lstm"], "readout": "max"},
        first_trials=[{"wide": "only"}, {"cell": "gru", "dropout": 0.75}],
    )
    state = state_of(
        ({"wide": "only"}, [0.9], "completed"),
        ({"wide": "add", "cell": "gru", "dropout": 0.75, "readout": "max"}, [0.8], "completed"),
    )
    visible = read(page(snapshot(config, state)))[1].rpartition("Leaderboard")[2]
    assert "valid_loss wide cell dropout seconds" in visible
    assert "0.1000 only 1.5" in visible
    assert "0.2000 add gru 0.75 1.5" in visible


def test_page_needs_no_network(report: str) -> None:
    outline, _ = read(report)
    for tag, attributes in outline.tags:
        assert "src" not in attributes, tag
        assert not (attributes.get("href") or "#").startswith("http"), attributes
        assert tag not in ("link", "iframe", "object")
    policy = next(a["content"] for t, a in outline.tags if a.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'")
    assert "http" not in (policy or "")


def test_page_is_accessible_to_screen_readers(report: str) -> None:
    outline, _ = read(report)
    assert ("html", {"lang": "en"}) in outline.tags
    figures = [attributes for tag, attributes in outline.tags if attributes.get("role") == "img"]
    assert len(figures) == 4
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in figures)
    assert all(attributes.get("scope") for tag, attributes in outline.tags if tag == "th")


def test_headline_states_the_uncertainty(demo: LocalExperiment) -> None:
    experiment = demo.snapshot()
    _, visible = read(page(experiment))
    best = experiment.state.ranked("valid_accuracy")[0]
    assert f"The best of 16 trials is trial {best.number}: " in visible
    assert "does not contain the size of the validation split" in visible
    assert "this value is biased upwards" in visible
    experiment.state.created = ExperimentCreated(at=0.0, fingerprint="f", valid_reviews=400)
    _, visible = read(page(experiment))
    assert re.search(
        r"400 validation documents. Its 95 % confidence interval \(.*\) is \d\d.\d to", visible
    )


def test_the_report_compares_with_the_best_baseline() -> None:
    state = with_majority(state_of(({"cell": "gru"}, [0.6], "completed")), 0.5)
    state.apply(
        BaselineValidated(
            at=9.0, name="nb_svm", valid_accuracy=0.7, valid_macro_f1=0.7, seconds=1.0
        )
    )
    _, visible = read(page(snapshot(make_config(), state)))
    assert "The best trial is 10.00 points worse than the best linear model (nb_svm" in visible

    def lines(metric: str) -> dict[str, float]:
        figure = learning_curves(make_config(), state, metric)
        return {trace.name: trace.y[0] for trace in figure.data if trace.mode == "lines"}

    expected = {"baseline nb_svm (70.00 %)": 0.7, "majority class (50.00 %)": 0.5}
    assert lines("valid_accuracy") == expected
    assert lines("valid_loss") == {}
    _, visible = read(page(snapshot(make_config(metric="valid_loss"), state)))
    assert "valid_loss of every trial" in visible
    assert "valid_accuracy of every trial" in visible


def test_the_test_accuracy_comes_first() -> None:
    state = with_majority(state_of(({"cell": "gru"}, [0.6], "completed")), 0.5)
    before = tiles(snapshot(make_config(), state))
    assert [tile.label for tile in before] == [
        "test accuracy", "validation accuracy", "majority class", "trials",
    ]  # fmt: skip
    assert before[0].value == "-"
    assert "celltune evaluate" in before[0].note
    for event in (retrained(0, 1, 352), baseline("nb_svm", 340)):
        state.apply(event)
    after = tiles(snapshot(make_config(), state))
    assert [(tile.label, tile.value) for tile in after[:2]] == [
        ("test accuracy", "88.00 %"),
        ("best baseline", "85.00 %"),
    ]
    _, visible = read(page(snapshot(make_config(), state)))
    assert "Classes of trial 0 on the test split" in visible
    assert tiles(snapshot(make_config(), ExperimentState()))[0].label == "trials"


@pytest.mark.parametrize(("accuracy", "labelled"), [(0.3, False), (0.9, True)])
def test_headline_compares_with_the_majority_class(accuracy: float, labelled: bool) -> None:
    state = with_majority(state_of(({"cell": "gru"}, [0.6], "completed")), accuracy)
    _, visible = read(page(snapshot(make_config(), state)))
    assert "Always predicting the majority class 'neg' has a validation accuracy of" in visible
    assert ("The trial is no better than the majority class." in visible) == labelled
    assert visible.count("no better than the majority class") == (2 if labelled else 0)


def failed_state() -> ExperimentState:
    state = ExperimentState([ExperimentCreated(at=0.0, fingerprint="f", valid_reviews=100)])
    for number in range(2):
        state.apply(TrialCreated(at=1.0, number=number, params={"cell": "gru"}, max_epochs=4))
        state.apply(TrialFailed(at=2.0, number=number, error="<script>alert(1)</script>"))
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (ExperimentState(), "No trial has finished an epoch yet, so there is no result."),
        (failed_state(), "2 trials failed."),
    ],
)
def test_page_of_a_search_without_results_says_so(state: ExperimentState, message: str) -> None:
    text = page(snapshot(make_config(), state))
    _, visible = read(text)
    assert message in visible
    assert "need at least 4 trials with a finished epoch. This search has 0." in visible
    assert "<script>alert" not in text
    assert len(text) < 20_000


def test_single_trial_is_not_reported_as_selected(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 1, "max_epochs": 2}, early_stopping=None)
    _, visible = read(page(finished_search(tmp_path, config).snapshot()))
    assert "The best of 1 trial is trial 0" in visible
    assert "biased upwards" not in visible
    assert "need at least 4 trials with a finished epoch. This search has 1." in visible
    assert visible.count("Early stopping was off.") == 2


def test_page_says_whether_a_new_launch_proposes_the_same_trials(tmp_path: Path) -> None:
    plain = finished_search(tmp_path / "plain", make_config()).events()
    budget = make_config().budget.model_dump(include={"trials", "max_epochs", "target", "patience"})
    changed = BudgetChanged(at=2.0, **budget, extended=[], retried=[])
    warm = WarmStarted(
        at=0.0, origin="older", trials=[], outside=0, parameters_left_out=[], same_data=True
    )
    for events, message in (
        (plain, "If trials run one at a time, the new search proposes the same trials"),
        ([*plain, changed], "may propose other trials, because the budget was changed"),
        ([plain[0], warm, *plain[1:]], "warm-started with the trials of 'older'"),
    ):
        _, visible = read(page(snapshot(make_config(), ExperimentState(events))))
        assert message in visible


def test_page_of_a_running_search_says_so(demo: LocalExperiment) -> None:
    with demo.locked():
        assert "still running" in page(demo.snapshot())


def test_learning_curves_contain_every_epoch_and_rung(demo: LocalExperiment) -> None:
    experiment = demo.snapshot()
    figure = learning_curves(experiment.config, experiment.state)
    points = sum(x is not None for trace in figure.data[:-1] for x in trace.x)
    assert points == sum(trial.epochs_done for trial in experiment.state.trials)
    assert rungs(experiment.config) == (1, 2)
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 2]


def test_importances_compare_trials_after_equal_training(demo: LocalExperiment) -> None:
    experiment = demo.snapshot()
    found = importances(experiment.config, experiment.state)
    completed = experiment.state.count("completed")
    assert next(iter(found)) == "all trials after epoch 1 (16)"
    assert [f"({completed})" in name for name in found][1:] == [True] * (completed >= 10)
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1.0)


def test_importances_omit_hyperparameters_with_a_single_value() -> None:
    trials = [
        (
            {"cell": "gru", "hidden_size": 8, "learning_rate": 0.001 * n},
            [0.5 + 0.01 * n],
            "completed",
        )
        for n in range(1, 25)
    ]
    config = make_config(early_stopping=None)
    (shares,) = importances(config, state_of(*trials)).values()
    assert list(shares) == ["learning_rate"]


def test_importance_is_not_shown_if_the_best_trials_are_equal() -> None:
    trials = [({"cell": cell, "learning_rate": 0.01}, [0.9], "completed") for cell in ("gru",) * 12]
    config = make_config(early_stopping=None)
    assert importances(config, state_of(*trials)) == {}
    _, visible = read(page(snapshot(config, state_of(*trials))))
    assert "The importance of the hyperparameters is not shown" in visible
    assert "11 other trials reached the same value; the first of them is listed first." in visible


def test_every_trial_is_on_every_axis(demo: LocalExperiment) -> None:
    experiment = demo.snapshot()
    (trace,) = parallel_coordinates(experiment.config, experiment.state).data
    axes = {axis.label: axis for axis in trace.dimensions}
    assert list(axes) == [*experiment.config.space.searched, "valid_accuracy"]
    assert all(len(axis["values"]) == 16 for axis in axes.values())
    assert "not active" in axes["layer_dropout"].ticktext
    drawn = slices(experiment.config, experiment.state)
    single = sum(trial.params["num_layers"] == 1 for trial in experiment.state.trials)
    assert sum(len(trace.x) for trace in drawn.data) == 16 * 5 - single


def test_results_on_the_test_split_have_intervals_and_confusion_matrices() -> None:
    state = searched(*(retrained(0, seed, 7) for seed in (1, 2)), baseline("nb_svm", 5))
    outline, visible = read(page(snapshot(make_config(), state)))
    assert "Retrained with 2 seeds, trial 0 reaches a test accuracy of" in visible
    assert "95 % interval" in visible
    assert verdict(state, "valid_accuracy") in visible
    assert visible.count("Confusion matrix:") == 4
    assert "trained with one seed" not in visible
    assert [tag for tag, _ in outline.tags].count("details") >= 4


def test_an_ensemble_has_a_section_of_its_own(report: str) -> None:
    assert "Members of the ensemble" not in report
    state = searched()
    state.apply(selected(member(weight=0.75), member(weight=0.25, experiment="b", number=4)))
    _, visible = read(page(snapshot(make_config(), state)))
    assert "The ensemble of 8 (2 models) has an estimated validation accuracy" in visible
    assert "trial 4 of b" in visible
    assert "0.750" in visible


def test_page_counts_the_lost_workers(report: str) -> None:
    assert "lost; the trials continue" not in report
    state = state_of(({"cell": "gru"}, [0.6], ""), ({"cell": "gru"}, [0.8], ""))
    for number in (0, 1):
        state.apply(WorkerLost(at=1.0, number=number, error="killed & gone"))
    _, text = read(page(snapshot(make_config(), state)))
    assert "1 worker was lost; the trials continue from their checkpoints." in text
    assert "The last one died: killed & gone" in text
