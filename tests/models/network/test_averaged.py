from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.network.averaged import AveragedNetwork

SPLIT = TensorizedSplit(
    np.array([2, 3, 2], np.int32), np.array([0, 2, 3], np.int64), np.zeros(2, np.int64)
)


class Fixed:
    """A network with given outputs."""

    def __init__(self, logs: NDArray[np.float64], wide_scale: float = 0.0) -> None:
        self.logs, self.wide_scale = logs, wide_scale

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        assert split is SPLIT
        return self.logs


def logs(*rows: list[float]) -> NDArray[np.float64]:
    return np.log(np.array(rows))


@given(st.floats(0.01, 0.99))
def test_probabilities_are_averaged_with_their_weights(weight: float) -> None:
    first, second = logs([0.9, 0.1], [0.2, 0.8]), logs([0.5, 0.5], [0.6, 0.4])
    found = AveragedNetwork([(weight, Fixed(first)), (1 - weight, Fixed(second))])
    np.testing.assert_allclose(
        np.exp(found.log_probabilities(SPLIT)),
        weight * np.exp(first) + (1 - weight) * np.exp(second),
    )


def test_a_probability_of_zero_has_a_finite_logarithm() -> None:
    one = Fixed(np.array([[0.0, -np.inf], [0.0, -np.inf]]))
    found = AveragedNetwork([(0.5, one), (0.5, one)]).log_probabilities(SPLIT)
    assert np.isfinite(found).all()


def test_the_scale_of_the_wide_part_is_the_weighted_mean() -> None:
    members = [(0.25, Fixed(logs([1.0]), 2.0)), (0.75, Fixed(logs([1.0]), 0.0))]
    assert AveragedNetwork(members).wide_scale == pytest.approx(0.5)
