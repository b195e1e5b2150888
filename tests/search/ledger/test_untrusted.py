"""Ledgers with valid checksums and invalid content."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from celltune.printable import printable
from celltune.search.errors import LedgerError
from celltune.search.ledger.events import EVENT, CheckpointsKept, EpochReported, TrialCreated
from celltune.search.ledger.fields import NAME
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.ledger.state import ExperimentState
from tests.search.ensemble_events import COSTS
from tests.strategies.ledgers import ledger_bytes, ledgers, valid_events

PARAMS = {"cell": "gru"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("untrusted") / "ledger.jsonl"


def test_the_events_of_the_strategy_are_valid(path: Path) -> None:
    path.write_bytes(ledger_bytes(valid_events(PARAMS)))
    state = ExperimentState(read(path))
    assert (len(state.trials), state.test_reads, len(state.evaluations)) == (2, 1, 2)
    kinds = {event["event"] for event in valid_events(PARAMS)}
    assert len(kinds) == len(EVENT.json_schema()["oneOf"])


def outcome(call: Callable[[], list[Any]], rejection: type[Exception]) -> tuple[list[Any], str]:
    """Return the result of a call, or the message with which it is rejected."""
    try:
        return call(), ""
    except rejection as error:
        return [], str(error)


@settings(max_examples=60, deadline=None)
@given(content=ledgers(PARAMS))
def test_any_ledger_is_read_or_rejected_in_one_sentence(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    events, message = outcome(lambda: read(path), LedgerError)
    assert message == printable(message)
    assert len(message) < 900
    for event in events:
        if isinstance(event, EpochReported):
            assert event.checkpoint is None or event.checkpoint.startswith("epoch-")
        elif isinstance(event, CheckpointsKept):
            assert NAME.fullmatch(event.owner)
    _, message = outcome(lambda: [ExperimentState(events)], ValueError)
    assert message == printable(message)


def changed(kind: str, **values: Any) -> list[Any]:
    """Return valid events, of which the first one of a kind has other values."""
    events = copy.deepcopy(valid_events(PARAMS))
    next(event for event in events if event["event"] == kind).update(values)
    return events


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            "epoch_reported",
            {"checkpoint": "../../x"},
            r"line 7: .*'../../x' is not the name of",
        ),
        ("epoch_reported", {"checkpoint": "epoch-1\n"}, r"'epoch-1\\n' is not the name of a che"),
        ("epoch_reported", {"metrics": {"valid_loss": -1.0}}, "'valid_loss' is -1, but it is betw"),
        ("epoch_reported", {"metrics": {"valid_accuracy": 1.5}}, "1.5, but it is between 0 and 1"),
        ("epoch_reported", {"metrics": {"valid_loss": "low"}}, "'low': Input should be a valid n"),
        ("epoch_reported", {"metrics": {"mine": float("nan")}}, "'nan': Input should be a finite"),
        (
            "epoch_reported",
            {"metrics": {"mine": 1e200}},
            r"'mine' is 1e\+200, but it is between",
        ),
        ("epoch_reported", {"at": 1e12}, "at: '1000000000000.0' is not a time between 1970 and 3"),
        ("epoch_reported", {"epoch": 0}, "epoch: '0': Input should be greater than or equal to 1"),
        ("trial_created", {"number": 10**400}, "number: .* Input should be less than or equal"),
        ("experiment_created", {"fingerprint": "../x"}, "line 1: .*'../x' is not a fingerprint"),
        ("experiment_created", {"schema_version": 3}, "a newer release of celltune wrote this led"),
        ("checkpoints_kept", {"owner": ".."}, "'..' is not the name of an experiment"),
        ("evaluation_reported", {"train_confusion": []}, "train_confusion does not have a row"),
        ("evaluation_reported", {"metrics": {"test_accuracy": 0.7}}, "it has no train_accuracy"),
        ("evaluation_reported", {"classes": []}, "its classes are none"),
        ("evaluation_reported", {"classes": ["a", "a"]}, "two have the same name"),
        ("evaluation_reported", {"test_confusion": [[4, 1]]}, "not have a row and a column for e"),
        ("evaluation_reported", {"test_confusion": [[4, 1], [2]]}, "not have a row and a column"),
        ("evaluation_reported", {"train_confusion": [[-1, 9], [1, 1]]}, "train_.* a negative cou"),
        ("evaluation_reported", {"test_confusion": [[0, 0], [0, 0]]}, "counts no documents"),
        ("evaluation_reported", {"test_confusion": [[3, 2], [1, 4]]}, "do not agree"),
        ("evaluation_reported", {"metrics": {}}, "it has no test_accuracy"),
        (
            "evaluation_reported",
            {"metrics": {**COSTS, "test_accuracy": 0.9}},
            "its test_accuracy is 0.9, but 7 of 10",
        ),
        (
            "evaluation_reported",
            {"train_confusion": [[5, 0], [1, 4]]},
            "its train_accuracy is 1, but 9 of 10",
        ),
        ("evaluation_reported", {"test_outcomes": "!"}, "cannot be decompressed"),
        ("evaluation_reported", {"test_outcomes": "é"}, "test_outcomes cannot be decompressed"),
        ("evaluation_reported", {"test_outcomes": "eJwDAAAAAAE="}, "one outcome for each document"),
    ],
)
def test_an_invalid_value_is_named(
    kind: str, values: dict[str, Any], message: str, path: Path
) -> None:
    content = ledger_bytes(changed(kind, **values))
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=message):
        read(path)
    with pytest.raises(LedgerError, match=message):
        Ledger(path)
    assert path.read_bytes() == content


def test_outcomes_are_not_decompressed_beyond_their_documents(path: Path) -> None:
    import base64
    import tracemalloc
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(10**8), 9)).decode()
    path.write_bytes(ledger_bytes(changed("evaluation_reported", test_outcomes=bomb)))
    tracemalloc.start()
    with pytest.raises(LedgerError, match="one outcome for each document"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_the_first_event_and_only_that_creates_the_experiment(path: Path) -> None:
    events = valid_events(PARAMS)
    path.write_bytes(ledger_bytes(events[1:]))
    with pytest.raises(LedgerError, match=r"line 1: only the first event creates the experiment"):
        read(path)
    path.write_bytes(ledger_bytes([*events, events[0]]))
    with pytest.raises(LedgerError, match=r"line 24: only the first event creates the experim"):
        read(path)


def test_a_line_of_another_experiment_is_rejected(path: Path) -> None:
    own = valid_events(PARAMS)
    other = [{**own[0], "experiment_id": "f" * 32}, *own[1:]]
    lines = ledger_bytes(own).splitlines(keepends=True)
    lines[7] = ledger_bytes(other).splitlines(keepends=True)[7]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=r"line 8: its checksum .* or it belongs to another exp"):
        read(path)


def test_an_older_ledger_is_continued_in_its_format(path: Path) -> None:
    created = valid_events(PARAMS)[0]
    path.write_bytes(ledger_bytes([{**created, "schema_version": 1, "experiment_id": None}]))
    event = TrialCreated(at=0.0, number=0, params={}, max_epochs=1)
    for bound in (False, True):
        if bound:
            path.write_bytes(ledger_bytes([created]))
        with Ledger(path) as ledger:
            ledger.append(event)
        first = created if bound else {**created, "experiment_id": None}
        plain = [first, event.model_dump(mode="json")]
        expected = ledger_bytes(plain).splitlines()[1].replace(b": ", b":").replace(b", ", b",")
        written = path.read_bytes().splitlines()[1].replace(b": ", b":").replace(b", ", b",")
        assert written[written.index(b"data") :] == expected[expected.index(b"data") :]
        assert read(path)[1] == event


def test_an_endless_line_is_not_read_to_its_end(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse: zeros without a line end
    with pytest.raises(LedgerError, match=r"line 1: it is longer than 67,108,864 bytes"):
        read(path)
