"""A model's weights and its optimizer's moments as one flat mapping of tensors, out and in."""

from __future__ import annotations

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError


def same_config(config: BaseModel, stored: JSON) -> bool:
    """Whether a stored dump says what ``config`` says.

    A field that the dump doesn't know, because it is older than the field, counts as its default:
    every new field's default is what was done before there was the field.
    """
    if not isinstance(stored, dict):
        return False
    mine = config.model_dump(mode="json")
    fields = type(config).model_fields
    defaults = {name: fields[name].get_default() for name in mine if name not in stored}
    return {**defaults, **stored} == mine


def _moments(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """What the optimizer keeps for each parameter after its first step."""
    if isinstance(optimizer, torch.optim.Adam):
        return ("exp_avg", "exp_avg_sq", "step")
    return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()


def pack_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copy all tensors to the CPU, as ``model.<name>`` and ``optimizer.<name>.<moment>``.

    Before its first step an optimizer has no moments, and none are in the mapping.
    """
    packed: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        packed[f"model.{name}"] = parameter.detach().cpu().clone()
        state = optimizer.state.get(parameter, {})
        for moment in _moments(optimizer) if state else ():
            packed[f"optimizer.{name}.{moment}"] = state[moment].detach().cpu().clone()
    return packed


def unpack_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put a packed state back; nothing is changed if anything doesn't fit.

    Args:
        model: of the same config as the packed one.
        optimizer: Adam or SGD over the learned parameters of ``model``.
        tensors: as ``pack_state`` gave them.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape or type.
    """
    stepped = any(name.startswith("optimizer.") for name in tensors)
    expected: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        expected[f"model.{name}"] = parameter
        if stepped and parameter.requires_grad:
            for moment in _moments(optimizer):
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
                    for moment in _moments(optimizer)
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
