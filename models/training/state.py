"""The weights of a model and the moments of its optimizer as one flat mapping of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.models.training.lazy_rows import is_adam
from celltune.printable import quoted


def config_matches(config: BaseModel, stored: JSON) -> bool:
    """Return whether a stored config equals `config`.

    A field that the stored config lacks, because it was added later, counts as its default. The
    default of every new field is the behaviour before the field existed.
    """
    if not isinstance(stored, dict):
        return False
    current = config.model_dump(mode="json")
    fields = type(config).model_fields
    defaults = {name: fields[name].get_default() for name in current if name not in stored}
    return {**defaults, **stored} == current


def check_identity(
    configs: Mapping[str, BaseModel], values: Mapping[str, JSON], meta: Mapping[str, JSON]
) -> None:
    """Check that a state belongs to a trial.

    Args:
        configs: the configs of the trial, by their keys in the state.
        values: other values that have to be equal, by their keys in the state.
        meta: the part of the state that is not a tensor.

    Raises:
        CheckpointError: a config or a value differs.
    """
    matches: dict[str, tuple[bool, JSON]] = {}
    for key, config in configs.items():
        matches[key] = config_matches(config, meta.get(key)), config.model_dump(mode="json")
    for key, value in values.items():
        matches[key] = meta.get(key) == value, value
    for key, (same, expected) in matches.items():
        if not same:
            stored, wanted = _differences(meta.get(key), expected)
            raise CheckpointError(
                f"The state belongs to another trial: its {key} is {quoted(stored)}, but this "
                f"trial's is {quoted(wanted)}. Load it into a Trainer with the same {key}."
            )


def _differences(stored: JSON, expected: JSON) -> tuple[JSON, JSON]:
    """Return the entries in which two objects differ; other values as they are."""
    if not isinstance(stored, dict) or not isinstance(expected, dict):
        return stored, expected
    both = {**expected, **stored}
    names = [name for name in both if stored.get(name) != expected.get(name)]
    return {name: stored.get(name) for name in names}, {name: expected.get(name) for name in names}


def _moments(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of the optimizer's state of each parameter after the first step."""
    if is_adam(optimizer):
        return ("exp_avg", "exp_avg_sq", "step")
    return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()


def pack_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Copy all tensors to the CPU, as `model.<name>` and `optimizer.<name>.<moment>`.

    Before the first step an optimizer has no moments, and the mapping contains none.

    Args:
        model: the model.
        optimizer: Adam, AdamW or SGD for its trainable parameters.
        weights: the weights of the training by name, if the model contains their average; stored
            as `optimizer.<name>.weights`.
    """
    packed = {_weights_name(name): values.cpu().clone() for name, values in weights.items()}
    for name, parameter in model.named_parameters():
        packed[f"model.{name}"] = parameter.detach().cpu().clone()
        state = optimizer.state.get(parameter, {})
        for moment in _moments(optimizer) if state else ():
            packed[f"optimizer.{name}.{moment}"] = state[moment].detach().cpu().clone()
    return packed


def unpack_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    *,
    most_steps: int,
) -> dict[str, Tensor]:
    """Restore a packed state. If anything does not match, nothing is changed.

    Args:
        model: a model with the config of the packed one.
        optimizer: Adam, AdamW or SGD for the trainable parameters of `model`.
        weights: tensors of the shapes of those of `pack_state`.
        tensors: the result of `pack_state`.
        most_steps: largest possible number of steps.

    Returns:
        The packed weights, by the names of `weights`.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or of another shape or type, or contains
            values that no optimizer has.
    """
    expected = {_weights_name(name): like for name, like in weights.items()}
    has_moments = any(name.startswith("optimizer.") for name in tensors.keys() - expected.keys())
    for name, parameter in model.named_parameters():
        expected[f"model.{name}"] = parameter
        if has_moments and parameter.requires_grad:
            for moment in _moments(optimizer):
                like = torch.zeros(()) if moment == "step" else parameter
                expected[f"optimizer.{name}.{moment}"] = like
    check_tensors(expected, tensors)
    _check_moments(tensors, most_steps)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state.pop(parameter, None)
            if has_moments and parameter.requires_grad:
                optimizer.state[parameter] = {
                    moment: tensors[f"optimizer.{name}.{moment}"].to(parameter.device).clone()
                    for moment in _moments(optimizer)
                }
    return {name: tensors[_weights_name(name)] for name in weights}


def _check_moments(tensors: Mapping[str, Tensor], most_steps: int) -> None:
    """Check what optimizers compute with: roots of `exp_avg_sq`, and tables of `step` numbers."""
    for name, values in tensors.items():
        moment = name.rpartition(".")[2] if name.startswith("optimizer.") else ""
        if moment == "exp_avg_sq" and bool((values < 0).any()):
            raise CheckpointError(
                f"The state's tensor {quoted(name)} has a value below 0. Load a state that "
                "Trainer.state() returned."
            )
        step = float(values) if moment == "step" else 0.0
        if not (0 <= step <= most_steps and step.is_integer()):
            raise CheckpointError(
                f"The state's tensor {quoted(name)} is {step:g}. It must be a whole number of 0 to "
                f"{most_steps}, the documents of its epochs. Load a state that Trainer.state() "
                "returned."
            )


def _weights_name(name: str) -> str:
    return f"optimizer.{name}.weights"


def read_epoch(meta: Mapping[str, JSON]) -> int:
    """Return the number of completed epochs of a state.

    Args:
        meta: the part of the state that is not a tensor.

    Raises:
        CheckpointError: it is not a number of epochs.
    """
    epoch = meta.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise CheckpointError(
            f"The state's epoch is {quoted(epoch)}. It must be a whole number of at least 0. Load "
            "a state that Trainer.state() returned."
        )
    return epoch


def check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check the tensors of a state.

    Args:
        expected: a tensor of the expected shape and type for each name.
        tensors: the tensors of the state.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or of another shape or type.
    """
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(
                f"The state has no tensor {quoted(name)}, which this model needs. Load it into a "
                "Trainer with the config of the state."
            )
        if name not in expected:
            raise CheckpointError(
                f"The state has a tensor {quoted(name)}, which this model does not have. Load it "
                "into a Trainer with the config of the state."
            )
        wanted, actual = expected[name], tensors[name]
        if wanted.shape != actual.shape or wanted.dtype != actual.dtype:
            raise CheckpointError(
                f"The state's tensor {quoted(name)} is {actual.dtype} of shape "
                f"{tuple(actual.shape)}, but this model needs {wanted.dtype} of shape "
                f"{tuple(wanted.shape)}. Load it into a Trainer with the config of the state."
            )
