"""Outcomes of documents for tests."""

from __future__ import annotations

import numpy as np

from celltune.search.metrics import pack_outcomes


def packed_outcomes(matrix: list[list[int]]) -> str:
    """Return the packed outcomes of documents that a confusion matrix counts."""
    return pack_outcomes(np.repeat(np.arange(len(matrix) ** 2), np.ravel(matrix)))
