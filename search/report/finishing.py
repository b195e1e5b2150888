"""What all figures of pages and notebooks have in common: their layout, and literal labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from celltune.search.escaping import plotly_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def finished(figure: Figure) -> dict[str, Any]:
    """Return a figure as plotly draws it: with the common layout, and texts shown as they are.

    Args:
        figure: a figure of `report.figures`; its layout is changed.
    """
    figure.update_layout(
        template="plotly_white",
        margin_t=60,
        legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top"},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    plain: dict[str, Any] = _with_literal_labels(figure.to_plotly_json())
    return plain


def _with_literal_labels(value: Any) -> Any:
    """Return a part of a figure whose texts plotly shows as they are, apart from newlines."""
    if isinstance(value, str):
        return plotly_text(value)
    if isinstance(value, Mapping):
        return {key: _with_literal_labels(member) for key, member in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return _with_literal_labels(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_with_literal_labels(member) for member in value]
    return value
