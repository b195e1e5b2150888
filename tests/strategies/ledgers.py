"""Ledgers from someone else: every checksum is right, and every value may be wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from celltune.search.ledger.codec import UNBOUND, binding_of, checksum
from celltune.search.ledger.events import ExperimentCreated
from tests.search.ensemble_events import COSTS
from tests.search.outcomes import packed_outcomes

Plain = dict[str, Any]
"""An event as its JSON object."""

ID = "0123456789abcdef" * 2
"""The id of the experiment in `valid_events`."""

_METRICS = {"valid_accuracy": 0.75, "valid_loss": 0.5, "seconds": 1.0, "parameters": 331.0}
_MATRIX = [[4, 1], [2, 3]]
_SCORES: Plain = {
    "on": "train",
    "metrics": {**COSTS, "test_accuracy": 0.7, "test_loss": 0.6},
    "classes": ["bad", "good"],
    "train_confusion": [[5, 0], [0, 5]],
    "test_confusion": _MATRIX,
    "test_outcomes": packed_outcomes(_MATRIX),
    "test_fingerprint": "cafe",
}
_MEMBER: Plain = {
    "experiment": None,
    "number": 0,
    "epoch": 1,
    "checkpoint": "epoch-1",
    "weight": 1.0,
    "params": {"cell": "gru"},
    "parameters": 331,
    "valid_loss": 0.5,
    "valid_accuracy": 0.75,
}
_VALID_SCORES = {"loss": 0.5, "accuracy": 0.75, "estimated_loss": 0.5, "estimated_accuracy": 0.7}
_GAIN = {"mean": 0.01, "error": 0.02}
_PRIOR = {"number": 3, "params": {"cell": "gru"}, "status": "pruned", "values": {"1": 0.5}}


def valid_events(params: Plain) -> list[Plain]:
    """Return the events of an experiment, at least one of each kind.

    Args:
        params: the hyperparameters of its trials.
    """
    plain: list[Plain] = [
        {"event": "experiment_created", "schema_version": 2, "experiment_id": ID}
        | {"fingerprint": "ad5a1dc0", "valid_reviews": 700, "majority_class": "good"}
        | {"majority_accuracy": 0.5},
        {"event": "warm_started", "origin": "earlier", "trials": [_PRIOR], "outside": 0}
        | {"parameters_left_out": [], "same_data": True},
        {"event": "run_started", "resumed": False, "celltune": "0.2.0", "host": "vm", "pid": 1},
        {"event": "baseline_validated", "name": "nb_svm", "valid_accuracy": 0.5}
        | {"valid_macro_f1": 0.5, "valid_loss": None, "seconds": 0.1},
        *(
            {"event": "trial_created", "number": n, "params": params, "max_epochs": 2}
            for n in (0, 1)
        ),
        _epoch(0, 1),
        _epoch(1, 1),
        {"event": "worker_lost", "number": 1, "error": "its node is gone", "cause": "lost"},
        _epoch(0, 2),
        {"event": "trial_stopped", "number": 0, "reason": "completed"},
        {"event": "trial_failed", "number": 1, "error": "it broke", "details": "Traceback"},
        {"event": "budget_changed", "trials": 3, "max_epochs": 3, "extended": [0], "retried": [1]},
        _epoch(0, 3),
        {"event": "trial_stopped", "number": 0, "reason": "completed"},
        {"event": "ensemble_selected", "fingerprint": "ad5a1dc0", "size": 1, "members": [_MEMBER]}
        | {"best": _MEMBER, "metric": "valid_accuracy", "candidates": 1, "documents": 700}
        | {"folds": 5, "ensemble": _VALID_SCORES, "single": _VALID_SCORES}
        | {"loss_gain": _GAIN, "accuracy_gain": _GAIN},
        {"event": "checkpoints_kept", "owner": "other", "checkpoints": {"0": ["epoch-2"]}},
        {"event": "test_split_read", "reader": "evaluate", "reviews": 10},
        {"event": "evaluation_reported", "number": 0, "seed": 1, "epoch": 2, **_SCORES},
        {"event": "evaluation_failed", "number": 0, "seed": 2, "on": "train", "error": "it broke"},
        {"event": "baseline_reported", "name": "nb_svm", **_SCORES},
        {"event": "ensemble_reported", "members": [_MEMBER], **_SCORES},
        {"event": "run_ended", "reason": "interrupted"},
    ]
    return [{"at": 1795324733.5 + number, **event} for number, event in enumerate(plain)]


def _epoch(number: int, epoch: int) -> Plain:
    return {"event": "epoch_reported", "number": number, "epoch": epoch} | {
        "metrics": _METRICS,
        "checkpoint": f"epoch-{epoch}",
    }


def ledger_bytes(events: Sequence[Any]) -> bytes:
    """Return a ledger of arbitrary JSON values, whose lines have valid numbers and checksums.

    It is bound to the experiment whose id its first event contains.
    """
    binding, lines = UNBOUND, []
    for number, event in enumerate(events):
        data = json.dumps(event, allow_nan=True).encode()
        crc = checksum(number, data, binding if number else UNBOUND)
        lines.append(b'{"n": %d, "crc": "%b", "data": %b}\n' % (number, crc, data))
        if number == 0:
            identity = event.get("experiment_id") if isinstance(event, dict) else None
            valid = isinstance(identity, str)
            created = ExperimentCreated.model_construct(experiment_id=identity if valid else None)
            binding = binding_of(created)
    return b"".join(lines)


PATHS = (
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b",
    "epoch-1/../../..",
    "epoch-1\x00",
    "~",
    "\\",
)
"""Names that leave their folder, or that are no names."""

hostile_values = st.one_of(
    st.sampled_from([*PATHS, *(f"epoch-1{end}" for end in ("\n", "/", ".damaged", "\x1b[2J"))]),
    st.sampled_from([None, True, False, [], {}, [[]], [[1], [2, 3]], {"": None}]),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**15 + 1, 10**400, -(10**30)]),
    st.sampled_from([0.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 4e11]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["x" * 100_000, "eJwDAAAAAAE=", "!", "é\u202e", "\ud800"]),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=8),
)
"""Values of any type at the place of any other."""


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values within a JSON value, except for itself."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, member in members:
        found.append((*path, key))
        if isinstance(member, (dict, list)):
            found += _paths(member, (*path, key))
    return found


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a JSON value with another one at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy


@st.composite
def event_lists(draw: st.DrawFn, params: Plain) -> list[Any]:
    """Draw the events of an experiment with up to three changes.

    A change replaces a value, removes a key, adds one, or removes, repeats or moves an event.

    Args:
        draw: see hypothesis.
        params: the hyperparameters of the trials.
    """
    events: list[Any] = valid_events(params)
    for _ in range(draw(st.integers(0, 3))):
        if not events:
            break
        index = draw(st.integers(0, len(events) - 1))
        event, kind = events[index], draw(st.sampled_from("vvvvkanrml"))
        paths = _paths(event) if isinstance(event, dict) else []
        if kind == "v" and paths:
            path = draw(st.sampled_from(paths))
            events[index] = _replaced(event, path, draw(hostile_values))
        elif kind == "k" and paths:
            key = draw(st.sampled_from(sorted(event)))
            events[index] = {name: value for name, value in event.items() if name != key}
        elif kind == "a" and paths:
            events[index] = {**event, draw(st.text(max_size=4)): draw(hostile_values)}
        elif kind == "n":
            events[index] = draw(hostile_values)
        elif kind == "r":
            events.insert(index, event)
        elif kind == "m":
            events.insert(draw(st.integers(0, len(events))), events.pop(index))
        elif kind == "l":
            del events[index]
    return events


def ledgers(params: Plain) -> st.SearchStrategy[bytes]:
    """Return a strategy of ledgers whose checksums are valid (see `event_lists`).

    Args:
        params: the hyperparameters of the trials; those of a real experiment, so that its config
            allows them.
    """
    return event_lists(params).map(ledger_bytes)
