"""The first event of an experiment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.search.runs.launch import _created_event
from tests.models.random_data import make_data, make_split
from tests.search.simulated_search import make_config


def _labelled(labels: list[int]) -> TensorizedSplit:
    return replace(make_split(len(labels), 1), labels=np.array(labels))


DATA = make_data(_labelled([0, 0, 0, 1]), _labelled([0, 0, 1, 1]))


@pytest.mark.parametrize(("wide", "expected"), [({"valid_accuracy": 0.75}, 0.75), (None, None)])
def test_the_accuracy_of_the_wide_part_is_recorded(wide: Any, expected: float | None) -> None:
    info = {} if wide is None else {"wide": wide}
    event = _created_event(make_config(), replace(DATA, info=info), 1.0)
    assert event.wide_accuracy == expected
    assert (event.majority_class, event.valid_reviews) == ("0", 4)
    assert event.majority_scores == {}


def test_the_scores_of_the_majority_class_by_the_metric_are_recorded() -> None:
    event = _created_event(make_config(metric="valid_balanced_accuracy"), DATA, 1.0)
    assert event.majority_scores == {"valid_balanced_accuracy": 0.5}
    assert event.majority_score("valid_balanced_accuracy") == 0.5
    assert event.majority_score("valid_accuracy") == event.majority_accuracy
