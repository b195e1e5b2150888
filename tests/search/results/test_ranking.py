from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.errors import OptionError
from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WorkerLost,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import (
    RankedSearch,
    Selection,
    SortOrder,
    losses_sentence,
    majority_sentence,
    ranking,
    why_stopped,
)
from celltune.search.types import ParameterValue

Trial = tuple[dict[str, ParameterValue], list[float], str]


def state_of(*trials: Trial, fingerprint: str = "f") -> ExperimentState:
    """Return a state with trials given as (parameters, accuracy of each epoch, final status)."""
    state = ExperimentState([ExperimentCreated(at=0.0, fingerprint=fingerprint)])
    for number, (params, values, end) in enumerate(trials):
        events: list[Event] = [TrialCreated(at=0.0, number=number, params=params, max_epochs=3)]
        for epoch, value in enumerate(values, 1):
            metrics = {"valid_accuracy": value, "valid_loss": 1 - value, "seconds": 1.5}
            events.append(
                EpochReported(
                    at=0.0, number=number, epoch=epoch, metrics=metrics, checkpoint=f"epoch-{epoch}"
                )
            )
        if end == "failed":
            events.append(TrialFailed(at=0.0, number=number, error="it broke"))
        elif end in ("completed", "pruned"):
            events.append(TrialStopped(at=0.0, number=number, reason=end))  # type: ignore[arg-type]
        for event in events:
            state.apply(event)
    return state


MIXED = state_of(
    ({"cell": "gru", "hidden_size": 64}, [0.5, 0.9, 0.8], "completed"),
    ({"cell": "lstm", "hidden_size": 8}, [0.9], "pruned"),
    ({"cell": "lstm", "hidden_size": 16, "dropout": 0.5}, [0.6], "failed"),
    ({"cell": "mgu"}, [], "failed"),
    ({"cell": "gru", "hidden_size": 32}, [0.7, 0.75], ""),
)


def board(state: ExperimentState = MIXED, running: bool = False) -> list[dict[str, Any]]:
    return ranking([RankedSearch("one", state, running)], "valid_accuracy")


def column(rows: list[dict[str, Any]], name: str = "trial") -> list[Any]:
    return [row[name] for row in rows]


def test_equal_trials_share_a_rank_and_trials_without_an_epoch_have_none() -> None:
    rows = board()
    assert column(rows) == [0, 1, 4, 2, 3]
    assert column(rows, "rank") == [1, 1, 3, 4, None]


def test_row_contains_the_best_and_the_last_epoch() -> None:
    first = board()[0]
    assert (first["valid_accuracy"], first["best_epoch"]) == (0.9, 2)
    assert (first["last_valid_accuracy"], first["epochs"]) == (0.8, 3)
    assert first["last_valid_loss"] == pytest.approx(0.2)
    assert first["seconds"] == 4.5
    assert board()[-1]["last_valid_accuracy"] is None


def with_majority(state: ExperimentState, accuracy: float | None) -> ExperimentState:
    """Return the trials of a state in an experiment whose majority class has this share."""
    created = ExperimentCreated(
        at=0.0, fingerprint="f", majority_class="neg", majority_accuracy=accuracy
    )
    copy = ExperimentState([created])
    copy.trials = state.trials
    return copy


@pytest.mark.parametrize(
    ("accuracy", "labelled"), [(None, []), (0.5, []), (0.6, [2]), (0.75, [4, 2]), (0.8, [4, 2])]
)
def test_trials_that_are_no_better_than_the_majority_class_are_labelled(
    accuracy: float | None, labelled: list[int]
) -> None:
    rows = board(with_majority(MIXED, accuracy))
    assert column([row for row in rows if row["note"]]) == labelled
    assert {row["note"] for row in rows} <= {"no better than the majority class", None}


def test_majority_is_described_only_if_the_ledger_contains_it() -> None:
    assert majority_sentence(ExperimentState()) == majority_sentence(MIXED) == ""
    assert majority_sentence(with_majority(MIXED, 0.603)) == (
        "Always predicting the majority class 'neg' has a validation accuracy of 60.30 %."
    )


@pytest.mark.parametrize("running", [True, False])
def test_row_says_why_a_trial_stopped(running: bool) -> None:
    rows = sorted(board(running=running), key=lambda row: row["trial"])
    assert column(rows, "stopped")[:4] == [
        "after all 3 epochs",
        "by early stopping after epoch 1",
        "by an error after epoch 1",
        "by an error after epoch 0",
    ]
    assert (rows[4]["status"], rows[4]["stopped"]) == (
        ("running", None) if running else ("unfinished", "with its search; a resume continues it")
    )


def test_trial_of_one_epoch_stopped_after_its_only_epoch() -> None:
    (trial,) = state_of(({"cell": "rnn"}, [0.5], "completed")).trials
    trial.max_epochs = 1
    assert why_stopped(trial, running=False, pruned_by="ASHA") == "after its only epoch"


def test_several_searches_are_ranked_together() -> None:
    other = state_of(({"cell": "rnn", "momentum": 0.9}, [0.85], "completed"))
    rows = ranking([RankedSearch("one", MIXED), RankedSearch("two", other)], "valid_loss")
    assert column(rows, "experiment") == ["one", "one", "two", "one", "one", "one"]
    assert column(rows, "rank") == [1, 1, 3, 4, 5, None]
    assert "data" not in rows[0]
    assert rows[2]["momentum"] == 0.9
    assert rows[2]["hidden_size"] is None
    assert len({tuple(row) for row in rows}) == 1


def test_searches_with_different_data_have_a_data_column() -> None:
    other = state_of(({"cell": "rnn"}, [0.85], "completed"), fingerprint="0123456789abcdef")
    rows = ranking([RankedSearch("one", MIXED), RankedSearch("two", other)], "valid_accuracy")
    assert rows[2]["data"] == "0123456789ab"


def test_any_column_sorts_and_missing_values_come_last() -> None:
    rows = board()
    assert column(Selection(order=SortOrder.parse("hidden_size")).apply(rows)) == [1, 2, 4, 0, 3]
    assert column(Selection(order=SortOrder.parse("-hidden_size")).apply(rows)) == [0, 4, 2, 1, 3]
    assert column(Selection(order=SortOrder.parse("hidden_size", reverse=True)).apply(rows)) == [
        0,
        4,
        2,
        1,
        3,
    ]
    assert column(Selection(order=SortOrder.parse("cell")).apply(rows)) == [0, 4, 1, 2, 3]
    assert column(Selection(order=SortOrder.parse(None, reverse=True)).apply(rows)) == [
        2,
        4,
        0,
        1,
        3,
    ]


def test_column_with_text_and_numbers_can_be_sorted() -> None:
    state = state_of(({"readout": "max"}, [0.5], ""), ({"readout": 2}, [0.6], ""))
    assert column(Selection(order=SortOrder.parse("readout")).apply(board(state))) == [1, 0]


def test_best_per_column_keeps_the_ranks() -> None:
    rows = Selection(best_per=("cell",)).apply(board())
    assert column(rows) == [0, 1, 3]
    assert column(rows, "rank") == [1, 1, None]
    assert column(Selection(best_per=("cell", "hidden_size")).apply(board())) == [0, 1, 4, 2, 3]
    assert column(Selection(best_per=("cell",), where="status == 'failed'").apply(board())) == [
        2,
        3,
    ]
    assert column(
        Selection(best_per=("cell",), order=SortOrder.parse("-seconds"), top=1).apply(board())
    ) == [0]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            Selection(order=SortOrder.parse("celll")),
            "`sort` names the column 'celll', which does not exist. Did you mean 'cell'",
        ),
        (
            Selection(order=SortOrder.parse("-acc")),
            "`sort` names the column 'acc'.*Allowed: rank, trial",
        ),
        (
            Selection(best_per=("cel",)),
            "`best_per` names the column 'cel', which does not exist. Did you mean 'cell'",
        ),
        (
            Selection(where="cel == 1"),
            "names the column 'cel', which does not exist. Did you mean 'cell'",
        ),
    ],
)
def test_unknown_column_is_rejected_with_a_suggestion(selection: Selection, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        selection.apply(board())


def test_selection_of_an_empty_search_is_empty() -> None:
    selection = Selection(
        where="cell == 'gru'", order=SortOrder.parse("-dropout"), best_per=("cell",)
    )
    assert selection.apply(board(ExperimentState())) == []


@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=3), max_size=8))
def test_rank_is_one_more_than_the_number_of_better_trials(values: list[list[float]]) -> None:
    rows = board(state_of(*(({"cell": "gru"}, each, "") for each in values)))
    best = [max(each) for each in values if each]
    for row in rows:
        if row["rank"] is not None:
            assert row["rank"] == 1 + sum(value > row["valid_accuracy"] for value in best)
    assert [row["rank"] for row in rows].count(None) == len(values) - len(best)
    assert sorted(column(rows)) == list(range(len(values)))


def test_losses_sentence_counts_each_worker_once() -> None:
    state = state_of(({"cell": "gru"}, [0.6], ""), ({"cell": "gru"}, [0.8], ""))
    assert losses_sentence(state) == ""
    for number in (0, 1):
        state.apply(WorkerLost(at=1.0, number=number, error="it was\nkilled"))
    assert losses_sentence(state) == (
        "1 worker was lost; the trials continue from their checkpoints. "
        "The last one died: it was\\nkilled"
    )
    for number in (0, 1):
        state.apply(WorkerLost(at=2.0, number=number, error="no epoch in 9 s", cause="hung"))
    assert state.workers_lost == 2
    assert losses_sentence(state) == (
        "2 workers were lost; the trials continue from their checkpoints. "
        "The last one hung: no epoch in 9 s"
    )
