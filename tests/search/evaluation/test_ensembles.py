from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from celltune import EvaluationSettings, ensemble
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest
from celltune.models.errors import CheckpointError
from celltune.search.decisions import Decision
from celltune.search.errors import ExperimentError, OptionError, StorageError
from celltune.search.evaluation.ensembles import score_ensemble, stored_members
from celltune.search.evaluation.evaluate import evaluate, plan_evaluation
from celltune.search.evaluation.evaluator import Evaluator
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger import events
from celltune.search.ledger.events import EnsembleReported, EnsembleSelected
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.checkpoints import LocalCheckpoints
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.prepared_data import load_prepared
from tests.search.ensemble_events import member, selected
from tests.search.evaluation.test_summaries import baseline, result_fields, retrained, searched
from tests.search.simulated_search import make_config


def data_of(experiment: LocalExperiment, event: EnsembleSelected) -> PreparedData:
    return load_prepared(experiment.name, experiment.config().data, event.fingerprint)


def with_ensemble(*later: EnsembleReported) -> ExperimentState:
    state = searched(selected(member(), at=1.0))
    for event in later:
        state.apply(event)
    return state


def reported(correct: int) -> EnsembleReported:
    return EnsembleReported(members=[member()], **result_fields(correct))


def test_scores_are_those_of_the_averaged_probabilities(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    event = ensemble("small", "other").selected
    assert {one.experiment for one in event.members} == {None, "other"}
    data = data_of(small, event)
    members = stored_members(small, event.members)
    # The validation split as the test split: its scores are known from the selection.
    scores = score_ensemble(members, "cpu", data, data.valid)
    assert scores.metrics["test_loss"] == pytest.approx(event.ensemble.loss, rel=1e-5)
    assert scores.metrics["test_accuracy"] == pytest.approx(event.ensemble.accuracy)
    assert scores.metrics["parameters"] == sum(one.parameters for one in event.members)
    assert np.sum(scores.train_confusion) == len(data.train)
    trials = small.state().trials
    assert scores.metrics["seconds"] == pytest.approx(
        sum(
            epoch.metrics["seconds"]
            for one in event.members
            for epoch in trials[one.number].epochs[: one.epoch]
        )
    )


def test_temperature_and_threshold_of_the_average_are_scored(small: LocalExperiment) -> None:
    event = ensemble("small").selected
    data = data_of(small, event)
    members = stored_members(small, event.members)
    plain = score_ensemble(members, "cpu", data, data.valid)
    scores = score_ensemble(members, "cpu", data, data.valid, Decision(2.0, 0.999))
    assert scores.metrics["test_uncalibrated_loss"] == plain.metrics["test_loss"]
    assert scores.metrics["test_uncalibrated_ece"] == plain.metrics["test_ece"]
    assert (scores.metrics["temperature"], scores.metrics["threshold"]) == (2.0, 0.999)
    assert np.sum(scores.test_confusion, axis=0)[1] == 0, "no probability reaches the threshold"


def test_a_missing_checkpoint_is_an_error(small: LocalExperiment) -> None:
    event = ensemble("small", trials_considered=1).selected
    members = stored_members(small, event.members)
    data = data_of(small, event)
    shutil.rmtree(small.checkpoints(event.best.number).folder)
    with pytest.raises(CheckpointError, match=r"epoch-\d+ does not exist"):
        score_ensemble(members, "cpu", data, data.valid)


def test_an_unreachable_storage_is_an_error(
    small: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = ensemble("small", trials_considered=1).selected
    members, data = stored_members(small, event.members), data_of(small, event)

    def fail(self: LocalCheckpoints, name: str) -> None:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(LocalCheckpoints, "load", fail)
    with pytest.raises(StorageError, match="of the ensemble cannot be read: Connection timed out"):
        score_ensemble(members, "cpu", data, data.valid)


def test_a_member_of_a_removed_experiment_is_an_error(
    small: LocalExperiment, other: LocalExperiment
) -> None:
    event = ensemble("small", "other").selected
    shutil.rmtree(other.path)
    with pytest.raises(ExperimentError, match="has no experiment 'other'"):
        stored_members(small, event.members)


def test_the_plan_of_an_ensemble_retrains_nothing() -> None:
    settings = EvaluationSettings(ensemble=True)
    state = with_ensemble()
    plan = plan_evaluation(state, make_config(), settings)
    assert plan.ensemble == state.ensemble
    assert (list(plan.retrainings), len(plan)) == ([], 4)
    again = plan_evaluation(with_ensemble(reported(300)), make_config(), settings)
    assert (again.ensemble, len(again)) == (None, 3)
    assert plan_evaluation(state, make_config(), EvaluationSettings()).ensemble is None


def test_without_an_ensemble_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(ExperimentError, match=r"'demo' has no ensemble. Select one, then evaluate"):
        plan_evaluation(searched(), make_config(), EvaluationSettings(ensemble=True))


def test_an_ensemble_is_not_retrained_on_other_splits() -> None:
    with pytest.raises(OptionError, match=r"`on` is 'train\+valid', but the models of an ensemble"):
        EvaluationSettings(ensemble=True, on="train+valid")


def test_an_evaluated_ensemble_needs_no_cluster(small: LocalExperiment) -> None:
    event = ensemble("small").selected
    with small.open_ledger() as ledger:
        ledger.append(
            events.TestSplitRead(at=2.0, reader="ensemble", reviews=400),
            EnsembleReported(members=event.members, **result_fields(300)),
        )
    state = evaluate("small", EvaluationSettings(ensemble=True, baselines=False))
    assert state.test_reads == 1
    assert state.ensemble_scores is not None


def test_the_evaluator_counts_one_reading_of_the_test_split(
    small: LocalExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = ensemble("small").selected
    data = data_of(small, event)

    def submit(resources: Any, retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
        assert small.state().test_reads == 1, "the reading is recorded before it happens"
        return partial(call, *arguments)

    monkeypatch.setattr("celltune.search.evaluation.evaluator.put", lambda value: value)
    monkeypatch.setattr("celltune.search.evaluation.evaluator.submit", submit)
    messages: list[str] = []
    with small.open_ledger() as ledger:
        test = PreparedTest("t", data.valid)
        evaluator = Evaluator(small, small.config(), ledger, data, test, messages.append)
        job = evaluator.ensemble(event)
        task = next(job)
        with pytest.raises(StopIteration):
            job.send(task())
    scores = small.state().ensemble_scores
    assert scores is not None
    assert (scores.members, small.state().test_reads) == (event.members, 1)
    assert messages[0].startswith("ensemble of 8 (")


def test_summaries_show_the_ensemble_next_to_trials_and_baselines() -> None:
    state = with_ensemble(reported(370))
    state.apply(retrained(1, 1, 350))
    state.apply(baseline("nb_svm", 340))
    records = summaries(state, "valid_accuracy")
    assert [record["kind"] for record in records] == ["trial", "ensemble", "baseline"]
    assert records[1]["name"] == "ensemble of 8 (1 model)"
    assert records[1]["test_accuracy"]["mean"] == pytest.approx(370 / 400)
    assert records[1]["trial"] is None


@pytest.mark.parametrize(
    ("correct", "conclusion"),
    [
        (380, "The ensemble is better than the baselines: the ensemble has a test accuracy of 95"),
        (300, "A baseline was better than the ensemble: the ensemble has a test accuracy of 75"),
        (341, "The ensemble is not clearly better than the baselines"),
        (339, "A baseline was better than the ensemble, but not clearly"),
    ],
)
def test_the_ensemble_is_compared_with_the_best_baseline(correct: int, conclusion: str) -> None:
    state = with_ensemble(reported(correct))
    assert verdict(state, "valid_accuracy") == ""
    state.apply(baseline("nb_svm", 340))
    state.apply(baseline("tfidf_logistic", 320))
    assert verdict(state, "valid_accuracy").startswith(conclusion)
    state.apply(retrained(1, 1, 350))
    both = verdict(state, "valid_accuracy")
    assert both.startswith("The best trial is ")
    assert conclusion in both
