"""The loss scale of float16 training, and its form in a checkpoint."""

from __future__ import annotations

import math

import torch

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.printable import quoted


class LossScale:
    """PyTorch's GradScaler (Micikevicius et al. 2018) with a state in JSON.

    Attributes:
        scaler: the GradScaler. It has no effect if the loss is not scaled.
    """

    def __init__(self, device: str, *, enabled: bool) -> None:
        """Start at the initial scale of PyTorch.

        Args:
            device: a PyTorch device type, such as "cuda".
            enabled: whether the loss is scaled.
        """
        self.scaler = torch.amp.GradScaler(device, enabled=enabled)

    def state(self) -> JSON:
        """Return the scale and its number of successful steps; None if the loss is not scaled."""
        if not self.scaler.is_enabled():
            return None
        # `_growth_tracker` is a private name of PyTorch; a test fails if it changes.
        state = self.scaler.state_dict()
        return {"scale": state["scale"], "held": state["_growth_tracker"]}

    def validate(self, stored: JSON) -> None:
        """Check a stored state.

        Raises:
            CheckpointError: it is neither None nor a scale above 0 with a number of steps.
        """
        if stored is None:
            return
        values = stored if isinstance(stored, dict) else {}
        scale, held = values.get("scale"), values.get("held")
        valid_scale = isinstance(scale, float) and 0 < scale < math.inf
        if not (valid_scale and isinstance(held, int) and held >= 0):
            raise CheckpointError(
                f"The state's loss_scale is {quoted(stored)}. It must contain 'scale', a number "
                "above 0, and 'held', a number of steps. Load a state that Trainer.state() "
                "returned."
            )

    def load(self, stored: JSON) -> None:
        """Continue from a valid state. None, the state of a CPU, keeps the initial scale."""
        if self.scaler.is_enabled() and isinstance(stored, dict):
            state = self.scaler.state_dict()
            state.update(scale=stored["scale"], _growth_tracker=stored["held"])
            self.scaler.load_state_dict(state)
