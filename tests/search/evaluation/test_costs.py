from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.search.cli.scores.evaluation import COLUMNS, cells
from celltune.search.ensembles.ensemble import ensemble
from celltune.search.evaluation.costs import WIDE_SECONDS, WideCosts, without_unknown_costs
from celltune.search.evaluation.ensembles import score_ensemble, stored_members
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.events import EpochReported, EvaluationReported, Event, TrialCreated
from celltune.search.ledger.state import ExperimentState
from celltune.search.report.evaluation_section import _result_cells
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.prepared_data import load_prepared
from tests.search.ensemble_events import member, selected
from tests.search.evaluation.test_ensembles import reported
from tests.search.evaluation.test_summaries import baseline, retrained

ONLY: dict[str, Any] = {"wide": "only"}
ADD: dict[str, Any] = {"wide": "add", "cell": "gru"}
PLAIN: dict[str, Any] = {"cell": "gru"}
NETWORK = {"seconds": 20.0, "seconds_per_epoch": 5.0, "milliseconds_per_review": 0.5}
COSTS = WideCosts(seconds=7.0, milliseconds=0.25)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([PLAIN], NETWORK),
        (
            [ADD],
            {
                "seconds": 27.0,
                "seconds_per_epoch": 5.0,
                "milliseconds_per_review": 0.75,
                WIDE_SECONDS: 7.0,
            },
        ),
        ([ONLY], {"seconds": 27.0, "milliseconds_per_review": 0.75, WIDE_SECONDS: 7.0}),
        (
            [PLAIN, ADD, ONLY],  # the wide part counts once
            {
                "seconds": 27.0,
                "seconds_per_epoch": 5.0,
                "milliseconds_per_review": 0.75,
                WIDE_SECONDS: 7.0,
            },
        ),
    ],
)
def test_costs_contain_those_of_the_wide_part(
    models: list[dict[str, Any]], expected: dict[str, float]
) -> None:
    assert COSTS.added_to({**NETWORK, "parameters": 3.0}, models) == {**expected, "parameters": 3.0}


def test_costs_that_were_not_measured_are_left_out() -> None:
    known_fit = WideCosts(seconds=7.0, milliseconds=None)
    assert known_fit.added_to(NETWORK, [ONLY]) == {"seconds": 27.0, WIDE_SECONDS: 7.0}
    unknown = WideCosts.of({}, {"wide": "none"}, "train")
    assert unknown == WideCosts(None, None)
    assert unknown.added_to(NETWORK, [ADD]) == {"seconds_per_epoch": 5.0}


def test_costs_are_measured_when_the_data_is_prepared(tmp_path: Path) -> None:
    raw = {"source": "synthetic", "reviews": 200, "test_size": 40, "wide": True}
    config = DataConfig.model_validate(raw)
    test = prepare_test(config, cache_dir=tmp_path)
    data = prepare(config, cache_dir=tmp_path)
    facts: Any = data.info["wide"]
    train = WideCosts.of(data.info, test.info, "train")
    both = WideCosts.of(data.info, test.info, "train+valid")
    assert train.seconds == facts["seconds"] > 0
    assert both.seconds is not None
    assert both.seconds > 0
    assert train.milliseconds == both.milliseconds
    assert train.milliseconds is not None
    assert train.milliseconds > 0


def state_with(params: dict[str, Any], *later: Event) -> ExperimentState:
    metrics = {"valid_accuracy": 0.8, "valid_loss": 0.5}
    epoch = EpochReported(at=0.0, number=0, epoch=1, metrics=metrics, checkpoint="epoch-1")
    first = TrialCreated(at=0.0, number=0, params=params, max_epochs=1)
    return ExperimentState([first, epoch, *later])


def with_costs(event: EvaluationReported) -> EvaluationReported:
    metrics = COSTS.added_to(event.metrics, [ONLY])
    return event.model_copy(update={"metrics": metrics})


def test_a_result_of_an_older_release_has_empty_cells_instead_of_the_cost_of_nothing() -> None:
    state = state_with(ONLY, retrained(0, 1, 300), baseline("nb_svm", 290))
    record = summaries(state, "valid_accuracy")[0]
    shown = dict(zip(COLUMNS, cells(record), strict=True))
    assert (shown["s per epoch"], shown["ms per document"]) == ("-", "-")
    assert (_result_cells(record)["s/epoch"], _result_cells(record)["ms/document"]) == ("", "")
    assert record["seconds"] is None
    assert "training took" not in verdict(state, "valid_accuracy")


def test_a_new_result_of_the_wide_part_alone_has_the_time_of_its_fit() -> None:
    state = state_with(ONLY, with_costs(retrained(0, 1, 300)), baseline("nb_svm", 290))
    record = summaries(state, "valid_accuracy")[0]
    shown = dict(zip(COLUMNS, cells(record), strict=True))
    assert (shown["s per epoch"], shown["ms per document"]) == ("-", "0.75")
    assert "training took 27 s and 20 s" in verdict(state, "valid_accuracy")


def test_results_of_networks_alone_are_known() -> None:
    event = retrained(0, 1, 300)
    assert without_unknown_costs(event, [PLAIN]) is event
    known = without_unknown_costs(event, [ADD]).metrics
    assert ("seconds" in known, known["seconds_per_epoch"]) == (False, 5.0)


def test_an_ensemble_of_an_older_release_has_no_costs_without_its_wide_part() -> None:
    state = state_with(ADD)
    checkpoint = state.trials[0].epochs[0].checkpoint
    one = member(params=ADD, checkpoint=checkpoint)
    state.apply(selected(one).model_copy(update={"best": one}))
    state.apply(reported(300).model_copy(update={"members": [one]}))
    (record,) = summaries(state, "valid_accuracy")
    assert (record["seconds"], record["milliseconds_per_review"]) == (None, None)


def test_trials_and_ensembles_count_the_weights_of_the_wide_part(
    wide_trials: LocalExperiment,
) -> None:
    alone, both = (trial.epochs[0].metrics for trial in wide_trials.state().trials)
    assert alone["parameters"] == alone["wide_parameters"] == both["wide_parameters"]
    assert both["parameters"] > both["wide_parameters"]
    config = wide_trials.config()
    created = wide_trials.state().created
    assert created is not None
    data = load_prepared(wide_trials.name, config.data, created.fingerprint)
    assert data.wide_parameters == both["wide_parameters"]
    candidates = ensemble("wide").selected
    members = [
        candidates.best.model_copy(
            update={"number": n, "params": wide_trials.state().trials[n].params, "weight": 0.5}
        )
        for n in (0, 1)
    ]
    scores = score_ensemble(stored_members(wide_trials, members), "cpu", data, data.valid)
    assert scores.metrics["parameters"] == both["parameters"]
