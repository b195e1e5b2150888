"""A model's weights and its Adam's moments as one flat mapping of tensors, out and in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import CheckpointError

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def pack_state(model: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Copy all tensors to the CPU, as ``model.<name>`` and ``optimizer.<name>.<moment>``.

    Before its first step an optimizer has no moments, and none are in the mapping.
    """
    packed: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        packed[f"model.{name}"] = parameter.detach().cpu().clone()
        for moment, value in optimizer.state.get(parameter, {}).items():
            packed[f"optimizer.{name}.{moment}"] = value.detach().cpu().clone()
    return packed


def unpack_state(model: nn.Module, optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """Put a packed state back; nothing is changed if anything doesn't fit.

    Args:
        model: of the same config as the packed one.
        optimizer: over all parameters of ``model``.
        tensors: as ``pack_state`` gave them.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape or type.
    """
    stepped = any(name.startswith("optimizer.") for name in tensors)
    expected: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        expected[f"model.{name}"] = parameter
        if stepped and parameter.requires_grad:
            for moment in MOMENTS:
                like = torch.zeros(()) if moment == "step" else parameter
                expected[f"optimizer.{name}.{moment}"] = like
    _check_fit(expected, tensors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state.pop(parameter, None)
            if stepped and parameter.requires_grad:
                optimizer.state[parameter] = {
                    moment: tensors[f"optimizer.{name}.{moment}"].to(parameter.device).clone()
                    for moment in MOMENTS
                }


def _check_fit(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(
                f"The state has no tensor {name!r}, which this model needs. "
                "Load it into a Trainer built with the same config."
            )
        if name not in expected:
            raise CheckpointError(
                f"The state has a tensor {name!r}, which this model doesn't know. "
                "Load it into a Trainer built with the same config."
            )
        mine, given = expected[name], tensors[name]
        if mine.shape != given.shape or mine.dtype != given.dtype:
            raise CheckpointError(
                f"The state's tensor {name!r} is {given.dtype} of shape {tuple(given.shape)}; this "
                f"model needs {mine.dtype} of shape {tuple(mine.shape)}. "
                "Load it into a Trainer built with the same config."
            )
