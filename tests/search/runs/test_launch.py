"""The first event of an experiment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celltune.search.runs.launch import _created_event
from tests.search.simulated_search import make_config


@pytest.mark.parametrize(("wide", "expected"), [({"valid_accuracy": 0.75}, 0.75), (None, None)])
def test_the_accuracy_of_the_wide_part_is_recorded(wide: Any, expected: float | None) -> None:
    info = {} if wide is None else {"wide": wide}
    data: Any = SimpleNamespace(
        fingerprint="f", valid=range(4), majority=lambda: ("a", 0.5), info=info
    )
    event = _created_event(make_config(), data, 1.0)
    assert event.wide_accuracy == expected
    assert (event.majority_class, event.valid_reviews) == ("a", 4)
