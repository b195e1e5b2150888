"""The scale of float16's losses, and its way into and out of a checkpoint."""

from __future__ import annotations

import math

import torch

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError


class LossScale:
    """torch's GradScaler (Micikevicius et al. 2018), whose state is JSON.

    Attributes:
        scaler: torch's; where losses aren't scaled it changes nothing.
    """

    def __init__(self, device: str, *, enabled: bool) -> None:
        """Start at torch's own first scale.

        Args:
            device: a torch device type, such as cuda.
            enabled: whether losses are scaled.
        """
        self.scaler = torch.amp.GradScaler(device, enabled=enabled)

    def state(self) -> JSON:
        """The scale and for how many steps it has held; None where losses aren't scaled."""
        if not self.scaler.is_enabled():
            return None
        state = self.scaler.state_dict()
        return {"scale": state["scale"], "held": state["_growth_tracker"]}

    def check(self, stored: JSON) -> None:
        """Refuse what ``state`` can't have given.

        Raises:
            CheckpointError: neither None nor a scale above 0 with a number of steps.
        """
        if stored is None:
            return
        given = stored if isinstance(stored, dict) else {}
        scale, held = given.get("scale"), given.get("held")
        positive = isinstance(scale, float) and 0 < scale < math.inf
        if not (positive and isinstance(held, int) and held >= 0):
            raise CheckpointError(
                f"The state's loss_scale is {stored!r}; it must hold a scale above 0 and for how "
                "many steps it has held. Load a state as Trainer.state() gave it."
            )

    def load(self, stored: JSON) -> None:
        """Go on from a state that ``check`` lets pass; from None, which the CPU stores, anew."""
        if self.scaler.is_enabled() and isinstance(stored, dict):
            state = self.scaler.state_dict()
            state.update(scale=stored["scale"], _growth_tracker=stored["held"])
            self.scaler.load_state_dict(state)
