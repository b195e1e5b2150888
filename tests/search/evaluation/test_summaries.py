from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from celltune.search.cli.evaluation_tables import COLUMNS, as_table, cells, confusion_table
from celltune.search.errors import ExperimentError
from celltune.search.evaluation.evaluate import plan
from celltune.search.evaluation.metrics import combine_scores, score_split
from celltune.search.evaluation.summaries import leaders, summaries, verdict
from celltune.search.ledger import events
from celltune.search.ledger.events import (
    BaselineReported,
    EvaluationFailed,
    EvaluationReported,
    Event,
    TrialFailed,
    TrialStopped,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.evaluation_section import evaluation_sentence
from tests.search.ledger.test_state import created, epoch
from tests.search.support import make_config

REVIEWS = 400
LABELS = np.arange(REVIEWS) % 2


def figures(right: int, on: str = "train") -> dict[str, Any]:
    """What a model that gets the first `right` reviews right comes to."""
    answers = np.where(np.arange(REVIEWS) < right, LABELS, 1 - LABELS)
    logs = np.log(np.where(answers[:, None] == [0, 1], 0.9, 0.1))
    part = score_split(LABELS, answers, logs, 2)
    more = {"seconds": 20.0, "seconds_per_epoch": 5.0, "parameters": 1e4}
    found = combine_scores(part, part, {**more, "milliseconds_per_review": 0.5})
    return {
        "at": 3.0,
        "on": on,
        "classes": ["neg", "pos"],
        "test_fingerprint": "t",
        **vars(found),
    }


def retrained(number: int, seed: int, right: int, on: str = "train") -> EvaluationReported:
    return EvaluationReported(number=number, seed=seed, epoch=2, **figures(right, on))


def baseline(name: str, right: int, on: str = "train") -> BaselineReported:
    content = figures(right, on)
    content["metrics"] = {k: v for k, v in content["metrics"].items() if not k.endswith("_loss")}
    content["metrics"].pop("seconds_per_epoch")
    return BaselineReported(name=name, **content)


def searched(*more: Event) -> ExperimentState:
    """Trial 0 was pruned, 1 completed and leads, 2 failed, 3 still runs."""
    return ExperimentState(
        [
            *(created(number) for number in range(4)),
            epoch(0, 1, 0.6),
            epoch(1, 1, 0.9),
            epoch(2, 1, 0.95),
            epoch(3, 1, 0.99),
            TrialStopped(at=2.0, number=0, reason="pruned"),
            TrialStopped(at=2.0, number=1, reason="completed"),
            TrialFailed(at=2.0, number=2, error="broke"),
            *more,
        ]
    )


def test_leaders_are_trials_that_ended_as_planned() -> None:
    assert [t.number for t in leaders(searched(), "valid_accuracy", 5)] == [1, 0]
    assert [t.number for t in leaders(searched(), "valid_accuracy", 1)] == [1]


def test_a_search_without_finished_trials_is_refused() -> None:
    state = ExperimentState([created(0), epoch(0, 1, 0.5), created(1)])
    with pytest.raises(
        ExperimentError, match=r"none of the 2 trials has finished.*celltune resume"
    ):
        leaders(state, "valid_accuracy", 3)


def test_what_the_ledger_holds_is_not_done_again() -> None:
    def todo(state: ExperimentState, on: Any = "train", baselines: bool = True) -> Any:
        found = plan(state, make_config(), top=2, seeds=2, on=on, baselines=baselines)
        pairs = [(trial.number, seed) for trial, seed in found.pairs]
        assert len(found) == len(pairs) + len(found.baselines)
        return pairs, list(found.baselines)

    names = ["tfidf_logistic", "nb_svm"]
    assert todo(searched()) == ([(1, 1), (1, 2), (0, 1), (0, 2)], names)
    failed = EvaluationFailed(at=3.0, number=0, seed=1, on="train", error="diverged")
    state = searched(retrained(1, 2, 350), failed, baseline("nb_svm", 340))
    assert todo(state) == ([(1, 1), (0, 1), (0, 2)], ["tfidf_logistic"])
    assert todo(state, baselines=False)[1] == []
    assert todo(state, on="train+valid") == ([(1, 1), (1, 2), (0, 1), (0, 2)], names)


def test_summaries_are_plain_and_hold_means_spreads_and_intervals() -> None:
    failed = [
        EvaluationFailed(at=3.0, number=1, seed=seed, on="train", error="no") for seed in (2, 3)
    ]
    state = searched(
        *failed,
        retrained(0, 1, 300),
        retrained(1, 1, 350),
        retrained(1, 2, 360),
        baseline("nb_svm", 340),
    )
    best, second, linear = summaries(state, "valid_accuracy")
    assert json.loads(json.dumps(best)) == best
    assert (best["kind"], best["trial"], best["on"]) == ("trial", 1, "train")
    assert (best["seeds"], best["failed_seeds"], best["epochs"]) == ([1, 2], [3], [2, 2])
    spread = best["test_accuracy"]
    assert spread["mean"] == pytest.approx(0.8875)
    assert spread["std"] == pytest.approx(np.std([0.875, 0.9], ddof=1))
    assert spread["low"] < 0.875 < 0.9 < spread["high"]
    assert best["test_confusion"] == [[355, 45], [45, 355]]
    assert best["parameters"] == 10_000
    assert (second["trial"], second["test_accuracy"]["std"]) == (0, None)
    assert (linear["kind"], linear["name"], linear["test_loss"]) == ("baseline", "nb_svm", None)
    assert linear["seconds_per_epoch"] is None


def test_nothing_measured_is_no_record_and_no_verdict() -> None:
    assert summaries(searched(), "valid_accuracy") == []
    assert verdict(searched(), "valid_accuracy") == ""


@pytest.mark.parametrize(
    ("right", "linear", "words"),
    [
        (380, 300, "The recurrent model is the better one: trial 1 is right on 95.00 %"),
        (300, 380, "A recurrent model isn't worth it here: trial 1 is right on 75.00 %"),
        (350, 349, "isn't clearly better than counting words"),
    ],
)
def test_the_verdict_says_whether_a_recurrent_model_is_worth_it(
    right: int, linear: int, words: str
) -> None:
    state = searched(
        retrained(1, 1, right),
        retrained(0, 1, 200),
        baseline("nb_svm", linear),
        baseline("tfidf_logistic", 200),
    )
    assert words in verdict(state, "valid_accuracy")
    assert "nb_svm on" in verdict(state, "valid_accuracy")


def test_the_test_split_chooses_no_leader() -> None:
    """Trial 1 leads on validation, trial 0 on the test split."""
    state = searched(retrained(0, 1, 390), retrained(1, 1, 350), baseline("nb_svm", 370))
    assert [one["trial"] for one in summaries(state, "valid_accuracy")] == [1, 0, None]
    assert "trial 1 is right on 87.50 %" in verdict(state, "valid_accuracy")
    assert "trial 1 reaches a test accuracy of 87.50 %" in evaluation_sentence(
        state, "valid_accuracy"
    )


def test_models_that_learned_from_different_parts_are_not_compared() -> None:
    assert (
        verdict(
            searched(retrained(1, 1, 380), baseline("nb_svm", 300, "train+valid")), "valid_accuracy"
        )
        == ""
    )


def test_readings_are_counted_also_those_that_came_to_nothing() -> None:
    read = events.TestSplitRead(at=3.0, reader="trial 1, seed 1", reviews=REVIEWS)
    assert searched(read, read, retrained(1, 1, 300)).test_reads == 2
    assert searched().test_reads == 0


def test_an_evaluation_of_no_trial_is_damage() -> None:
    with pytest.raises(ValueError, match="trial 9 was never created"):
        searched(retrained(9, 1, 300))


def test_the_table_has_a_cell_for_every_column() -> None:
    failed = EvaluationFailed(at=3.0, number=1, seed=7, on="train", error="no")
    state = searched(failed, retrained(1, 1, 350), retrained(1, 2, 360), baseline("nb_svm", 340))
    trial, linear = summaries(state, "valid_accuracy")
    assert dict(zip(COLUMNS, cells(trial), strict=True)) == {
        "model": "trial 1: gru",
        "on": "train",
        "seeds": "2, 1 failed",
        "test accuracy": "88.75 ± 1.77 %",
        "95 % interval": cells(trial)[4],
        "F1": "0.8875",
        "cross-entropy": "0.3525",
        "train": "88.75 %",
        "parameters": "10,000",
        "s/epoch": "5.0",
        "ms/review": "0.50",
    }
    assert cells(linear)[3:8:3] == ["85.00 %", "-"]
    assert len(as_table([trial, linear]).rows) == 2
    shown = [cells[1] for cells in confusion_table(trial, "test").rows]
    assert shown == ["355 (88.75 %)", "45 (11.25 %)"]
