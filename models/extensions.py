"""Extension points of `celltune.models` and their built-in implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celltune.registry import Registry

if TYPE_CHECKING:
    from celltune.models.layers.base import Cell
    from celltune.models.network.readout import Readout

CELLS: Registry[type[Cell]] = Registry(
    "cell",
    "celltune.cells",
    {
        "rnn": "celltune.models.layers.cells:RnnCell",
        "lstm": "celltune.models.layers.cells:LstmCell",
        "gru": "celltune.models.layers.cells:GruCell",
        "gru_reset_before": "celltune.models.layers.cells:GruResetBeforeCell",
        "mgu": "celltune.models.layers.cells:MguCell",
    },
)
"""Recurrent cells: subclasses of `celltune.models.layers.base.Cell`, by name."""

READOUTS: Registry[type[Readout]] = Registry(
    "readout",
    "celltune.readouts",
    {
        "final": "celltune.models.network.readout:FinalReadout",
        "mean": "celltune.models.network.readout:MeanReadout",
        "max": "celltune.models.network.readout:MaxReadout",
        "max_mean": "celltune.models.network.readout:MaxMeanReadout",
        "attention": "celltune.models.network.readout:AttentionReadout",
        "last_two_layers": "celltune.models.network.readout:LastTwoLayersReadout",
    },
)
"""Readouts: subclasses of `celltune.models.network.readout.Readout`, by name."""
