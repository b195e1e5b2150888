"""A confusion matrix as a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from celltune.printable import printable
from celltune.search.metrics import row_shares
from celltune.search.wording import percent_text

MOST_LABELLED = 12
"""Classes above which the cells are too small for numbers, which the hover text has."""
_NAME_LENGTH = 30


def confusion_heatmap(counts: NDArray[Any], classes: Sequence[str]) -> go.Figure:
    """Return a heatmap of a confusion matrix, coloured by the share of each true class.

    Args:
        counts: (C, C) numbers of documents, one row per true class.
        classes: names of the C classes.
    """
    names = [printable(name, _NAME_LENGTH) for name in classes]
    shares = row_shares(counts)
    texts = [
        [f"{count:,}\n{percent_text(share, 0)}" for count, share in zip(*row, strict=True)]
        for row in zip(counts.tolist(), shares.tolist(), strict=True)
    ]
    # Positions instead of names: plotly would merge classes whose shortened names are equal.
    positions = list(range(len(names)))
    figure = go.Figure(
        go.Heatmap(
            z=shares.tolist(),
            x=positions,
            y=positions,
            text=texts if len(names) <= MOST_LABELLED else None,
            texttemplate="%{text}",
            customdata=_hover_texts(counts, names),
            hovertemplate="%{customdata}<extra></extra>",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            showscale=False,  # the caption says what the colors mean
        )
    )
    axis = {"tickvals": positions, "ticktext": names}
    figure.update_xaxes(title="predicted class", constrain="domain", **axis)
    figure.update_yaxes(title="true class", autorange="reversed", scaleanchor="x", **axis)
    figure.update_layout(height=min(900, 220 + 60 * len(names)))
    return figure


def _hover_texts(counts: NDArray[Any], names: Sequence[str]) -> list[list[str]]:
    """Return the text of each cell: its count, and precision and recall of the two classes."""
    recall = np.diagonal(row_shares(counts))
    precision = np.diagonal(row_shares(counts.T))
    return [
        [
            f"true {true}, predicted {predicted}: {counts[row, column]:,}\n"
            f"recall of {true} {percent_text(float(recall[row]), 1)}\n"
            f"precision of {predicted} {percent_text(float(precision[column]), 1)}"
            for column, predicted in enumerate(names)
        ]
        for row, true in enumerate(names)
    ]
