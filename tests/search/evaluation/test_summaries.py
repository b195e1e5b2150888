from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from celltune.search.cli.scores.evaluation import (
    COLUMNS,
    as_table,
    cells,
    confusion_table,
    notes_below,
)
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.evaluation.evaluate import EvaluationSettings, plan_evaluation
from celltune.search.evaluation.summaries import best_ended_trials, summaries, verdict
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
from celltune.search.metrics import combine_scores, pack_outcomes, score_split
from celltune.search.report.evaluation_section import evaluation_sentence
from tests.search.ledger.test_state import created, epoch
from tests.search.simulated_search import make_config

DOCUMENTS = 400
LABELS = np.arange(DOCUMENTS) % 2


def result_fields(correct: int, on: str = "train") -> dict[str, Any]:
    """Return the fields of a result with the first `correct` documents classified correctly."""
    predictions = np.where(np.arange(DOCUMENTS) < correct, LABELS, 1 - LABELS)
    logs = np.log(np.where(predictions[:, None] == [0, 1], 0.9, 0.1))
    split_scores = score_split(LABELS, predictions, logs, 2)
    times = {"seconds": 20.0, "seconds_per_epoch": 5.0, "milliseconds_per_review": 0.5}
    scores = combine_scores(split_scores, split_scores, {**times, "parameters": 1e4})
    return {
        "at": 3.0,
        "on": on,
        "classes": ["neg", "pos"],
        "test_fingerprint": "t",
        **vars(scores),
    }


def retrained(number: int, seed: int, correct: int, on: str = "train") -> EvaluationReported:
    return EvaluationReported(number=number, seed=seed, epoch=2, **result_fields(correct, on))


def baseline(name: str, correct: int, on: str = "train") -> BaselineReported:
    fields = result_fields(correct, on)
    fields["metrics"] = {k: v for k, v in fields["metrics"].items() if not k.endswith("_loss")}
    fields["metrics"].pop("seconds_per_epoch")
    return BaselineReported(name=name, **fields)


def searched(*events: Event) -> ExperimentState:
    """Return a state with a pruned trial 0, a completed and best 1, a failed 2, an unfinished 3."""
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
            *events,
        ]
    )


def test_best_ended_trials_are_completed_or_pruned() -> None:
    assert [t.number for t in best_ended_trials(searched(), "valid_accuracy", 5)] == [1, 0]
    assert [t.number for t in best_ended_trials(searched(), "valid_accuracy", 1)] == [1]


def test_search_without_an_ended_trial_is_rejected() -> None:
    state = ExperimentState([created(0), epoch(0, 1, 0.5), created(1)])
    with pytest.raises(
        ExperimentError, match=r"no trial has finished \(2 started, 0 failed\).*Resume the search"
    ):
        best_ended_trials(state, "valid_accuracy", 3)


def test_plan_omits_results_in_the_ledger() -> None:
    def planned(state: ExperimentState, on: Any = "train", baselines: bool = True) -> Any:
        settings = EvaluationSettings(top=2, seeds=2, on=on, baselines=baselines)
        plan = plan_evaluation(state, make_config(), settings)
        retrainings = [(trial.number, seed) for trial, seed in plan.retrainings]
        assert len(plan) == len(retrainings) + len(plan.baselines)
        return retrainings, list(plan.baselines)

    names = ["tfidf_logistic", "nb_svm", "tfidf_char_logistic"]
    assert planned(searched()) == ([(1, 1), (1, 2), (0, 1), (0, 2)], names)
    failed = EvaluationFailed(at=3.0, number=0, seed=1, on="train", error="diverged")
    state = searched(retrained(1, 2, 350), failed, baseline("nb_svm", 340))
    assert planned(state) == ([(1, 1), (0, 1), (0, 2)], [names[0], names[2]])
    assert planned(state, baselines=False)[1] == []
    assert planned(state, on="train+valid") == ([(1, 1), (1, 2), (0, 1), (0, 2)], names)


def test_summaries_contain_means_deviations_and_intervals() -> None:
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
    best, second, fitted = summaries(state, "valid_accuracy")
    assert json.loads(json.dumps(best)) == best
    assert (best["kind"], best["trial"], best["on"]) == ("trial", 1, "train")
    assert (best["seeds"], best["failed_seeds"], best["epochs"]) == ([1, 2], [3], [2, 2])
    scores = best["test_accuracy"]
    assert scores["mean"] == pytest.approx(0.8875)
    assert scores["std"] == pytest.approx(np.std([0.875, 0.9], ddof=1))
    assert scores["low"] < 0.875 < 0.9 < scores["high"]
    assert best["test_confusion"] == [[355, 45], [45, 355]]
    assert best["parameters"] == 10_000
    assert (second["trial"], second["test_accuracy"]["std"]) == (0, None)
    assert (fitted["kind"], fitted["name"], fitted["test_loss"]) == ("baseline", "nb_svm", None)
    assert fitted["seconds_per_epoch"] is None


def test_f1_of_older_ledgers_is_derived_from_the_confusion_matrices() -> None:
    """Older releases counted a class without a test document as 0."""
    fields = result_fields(350)
    event = EvaluationReported(
        number=1,
        seed=1,
        epoch=2,
        **{
            **fields,
            "classes": ["a", "b", "c"],
            "metrics": {
                **fields["metrics"],
                "test_accuracy": 0.9,
                "train_accuracy": 28 / 30,
                "test_f1": 0.58,
                "train_f1": 0.59,
            },
            "train_confusion": [[9, 1, 0], [1, 9, 0], [0, 0, 10]],
            "test_confusion": [[9, 1, 0], [1, 9, 0], [0, 0, 0]],
            "test_outcomes": pack_outcomes(np.repeat([0, 1, 3, 4], [9, 1, 1, 9])),
        },
    )
    (record,) = summaries(searched(event), "valid_accuracy")
    assert record["test_f1"]["mean"] == pytest.approx(0.9)
    assert record["test_f1"]["low"] < 0.9 < record["test_f1"]["high"]
    assert record["train_f1"]["mean"] == pytest.approx(2.8 / 3)


def test_no_evaluation_gives_no_summary_and_no_verdict() -> None:
    assert summaries(searched(), "valid_accuracy") == []
    assert verdict(searched(), "valid_accuracy") == ""


@pytest.mark.parametrize(
    ("correct", "baseline_correct", "text"),
    [
        (
            380,
            300,
            "is better than the baselines: trial 1 has a test accuracy of 95.00 %",
        ),
        (
            300,
            380,
            "A baseline was better than the best trial: trial 1 has a test accuracy of",
        ),
        (350, 349, "is not clearly better than the baselines"),
        (349, 349, "is not clearly better than the baselines"),
        (349, 350, "A baseline was better than the best trial, but not clearly: trial 1 has"),
    ],
)
def test_verdict_compares_the_best_trial_with_the_best_baseline(
    correct: int, baseline_correct: int, text: str
) -> None:
    state = searched(
        retrained(1, 1, correct),
        retrained(0, 1, 200),
        baseline("nb_svm", baseline_correct),
        baseline("tfidf_logistic", 200),
    )
    assert text in verdict(state, "valid_accuracy")
    assert "nb_svm one of" in verdict(state, "valid_accuracy")


def test_verdict_does_not_choose_the_trial_by_the_test_split() -> None:
    """Trial 1 is the best one by validation, trial 0 by the test split."""
    state = searched(retrained(0, 1, 390), retrained(1, 1, 350), baseline("nb_svm", 370))
    assert [record["trial"] for record in summaries(state, "valid_accuracy")] == [1, 0, None]
    assert "trial 1 has a test accuracy of 87.50 %" in verdict(state, "valid_accuracy")
    assert "trial 1 reaches a test accuracy of 87.50 %" in evaluation_sentence(
        state, "valid_accuracy"
    )


def test_verdict_compares_only_equal_training_splits() -> None:
    assert (
        verdict(
            searched(retrained(1, 1, 380), baseline("nb_svm", 300, "train+valid")), "valid_accuracy"
        )
        == ""
    )


def test_readings_without_a_result_are_counted() -> None:
    read = events.TestSplitRead(at=3.0, reader="trial 1, seed 1", reviews=DOCUMENTS)
    assert searched(read, read, retrained(1, 1, 300)).test_reads == 2
    assert searched().test_reads == 0


def test_evaluation_of_an_unknown_trial_is_rejected() -> None:
    with pytest.raises(ValueError, match="trial 9 was never created"):
        searched(retrained(9, 1, 300))


def test_table_has_a_cell_for_every_column() -> None:
    failed = EvaluationFailed(at=3.0, number=1, seed=7, on="train", error="no")
    state = searched(failed, retrained(1, 1, 350), retrained(1, 2, 360), baseline("nb_svm", 340))
    trial, fitted = summaries(state, "valid_accuracy")
    assert dict(zip(COLUMNS, cells(trial), strict=True)) == {
        "model": "trial 1: gru",
        "on": "train",
        "seeds": "2, 1 failed",
        "test accuracy": "88.75 ± 1.77 %",
        "95 % interval": cells(trial)[4],
        "F1": "0.8875",
        "test loss": "0.3525",
        "train": "88.75 %",
        "parameters": "10,000",
        "s per epoch": "5.0",
        "ms per document": "0.50",
    }
    assert cells(fitted)[3:8:3] == ["85.00 %", "-"]
    assert len(as_table([trial, fitted]).rows) == 2
    shown = [cells[1] for cells in confusion_table(trial, "test").rows]
    assert shown == ["355 (88.75 %)", "45 (11.25 %)"]
    narrow = as_table([trial], width=80)
    assert [column.title for column in narrow.columns] == list(COLUMNS[:7])
    assert len(narrow.rows[0]) == 7
    assert "120 columns also shows the training accuracy" in notes_below([trial], width=80)[0]
    assert notes_below([trial]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on": "valid"}, r"`on` is 'valid'\..* Allowed: train, train\+valid"),
        ({"top": 0}, "`top` is 0; it must be at least 1"),
        ({"seeds": -1}, "`seeds` is -1; it must be at least 1"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EvaluationSettings(**settings)
