"""The weighted average of the probabilities of trained models.

Shapes: n documents, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.network.trained import Network

_SMALLEST = np.finfo(np.float64).tiny


class AveragedNetwork:
    """An ensemble behind the interface of one trained model."""

    def __init__(self, members: Sequence[tuple[float, Network]]) -> None:
        """Combine trained models of one vocabulary and the same classes.

        Args:
            members: weights and models; the weights sum to 1.
        """
        self._members = tuple(members)

    @property
    def wide_scale(self) -> float:
        """Weighted mean of the factors of the members; see `Network`.

        The logits of an average of probabilities are not linear in the outputs of the wide part, so
        this factor describes the members, not the average.
        """
        return sum(weight * network.wide_scale for weight, network in self._members)

    def log_probabilities(self, split: TensorizedSplit) -> NDArray[np.float64]:
        """Return the logarithms of the averaged probabilities; see `Network`."""
        average = sum(
            weight * np.exp(network.log_probabilities(split)) for weight, network in self._members
        )
        logs: NDArray[np.float64] = np.log(np.maximum(average, _SMALLEST))
        return logs


def averaged(members: Sequence[tuple[float, Network]]) -> Network:
    """Return weighted models as one; a single one is returned as it is.

    Args:
        members: see `AveragedNetwork`.
    """
    return members[0][1] if len(members) == 1 else AveragedNetwork(members)
