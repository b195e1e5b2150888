"""Updates of all trials by one GPU kernel per parameter. Importing this module imports Triton.

Shapes: N trials, S steps of an epoch, W settings of a step (`update_kernels`).

A step reads each gradient, value and moment once. What differs between trials and steps, such as
the step size, is computed before the epoch and transferred at once, and the norms of the gradients
stay on the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from celltune.models.config import TrainingConfig
from celltune.models.packed.stacks import StackedParameters
from celltune.models.packed.update_kernels import WIDTH, update
from celltune.models.training.averages import average_decays
from celltune.models.training.trainer import Trainer
from celltune.models.training.updater import decayed_parameters, has_schedule, learning_rates

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""The constants of Adam in PyTorch, which `make_optimizer` uses."""
BLOCK = 1024
"""Values per program of the kernel."""
NORM_EPS = 1e-6
"""What `torch.nn.utils.clip_grad_norm_` adds to a norm before it divides by it."""


class FusedUpdate:
    """A `PackedUpdate` with stacked moments, of which the optimizers' own moments are views."""

    def __init__(self, trainers: Sequence[Trainer], stacks: StackedParameters) -> None:
        """Allocate the moments.

        Args:
            trainers: the trials.
            stacks: their weights.
        """
        self._trainers, self._stacks = tuple(trainers), stacks
        self._training = [trainer.training for trainer in trainers]
        self._adam = self._training[0].optimizer in ("adam", "adamw")
        self._names = ("exp_avg", "exp_avg_sq") if self._adam else ("momentum_buffer",)
        self._parameters = [own for _, own in stacks.trainable()]
        shrinking = set(map(id, decayed_parameters(trainers[0].model)))
        decoupled = self._training[0].optimizer == "adamw"
        self._shrinks = [decoupled and id(own[0]) in shrinking for own in self._parameters]
        self._moments = [
            [torch.zeros_like(stacked, requires_grad=False) for _ in self._names]
            for stacked, _ in stacks.trainable()
        ]
        self._rows = [[values.unbind(0) for values in moments] for moments in self._moments]
        self._taken = [0] * len(trainers)
        self._device = self._moments[0][0].device
        limits = [training.gradient_clip for training in self._training]
        self._clips = any(limit is not None for limit in limits)
        maxima = [float("inf") if limit is None else limit for limit in limits]
        self._limits = torch.tensor(maxima, device=self._device)
        self._averages = _StackedAverages(trainers, stacks)
        self._settings: Sequence[Tensor] = ()
        self._steps: Sequence[int] = ()
        self._step = 0

    def start(self, steps: Sequence[int]) -> None:
        """See `PackedUpdate.start`. Adopts states that were loaded since the last epoch."""
        for trial in range(len(self._trainers)):
            self._adopt(trial)
        self._averages.start(steps)
        rows = [
            step_settings(trainer.training, taken, own, max(steps), trainer.epoch)
            for trainer, taken, own in zip(self._trainers, self._taken, steps, strict=True)
        ]
        with np.errstate(over="ignore"):  # an infinite step size ends in DivergedError
            table = torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))  # (S, N, W)
        self._settings = table.to(self._device, non_blocking=True).unbind(0)
        self._steps, self._step = steps, 0

    def scale(self, losses: Tensor) -> Tensor:
        """See `PackedUpdate.scale`."""
        return losses

    def step(self, active: Sequence[bool]) -> None:
        """See `PackedUpdate.step`. The settings of the epoch contain which trials are active."""
        del active
        stacks = [stacked for stacked, _ in self._stacks.trainable()]
        factors = self._clip_factors(
            [stacked.grad for stacked in stacks if stacked.grad is not None]
        )
        settings = self._settings[self._step]
        with _on_device(self._device):
            for stacked, moments, shrinks in zip(stacks, self._moments, self._shrinks, strict=True):
                launch(stacked, moments, settings, factors, adam=self._adam, shrinks=shrinks)
        self._averages.step(self._step)
        self._step += 1

    def finish(self) -> None:
        """See `PackedUpdate.finish`."""
        self._averages.finish(self._steps)
        self._taken = [taken + own for taken, own in zip(self._taken, self._steps, strict=True)]
        counts = torch.tensor(self._taken, dtype=torch.float32, device=self._device)
        for parameters, rows in zip(self._parameters, self._rows, strict=True):
            numbers = counts.clone().unbind(0)  # an optimizer increments them one by one
            for trial, values in enumerate(parameters):
                moments = dict(zip(self._names, (row[trial] for row in rows), strict=True))
                state = {"step": numbers[trial], **moments} if self._adam else moments
                if self._adam or self._training[trial].momentum:
                    self._trainers[trial].optimizer.state[values] = state

    def _adopt(self, trial: int) -> None:
        """Copy the moments of a trial into the stacked ones, unless they are views already."""
        states = self._trainers[trial].optimizer.state
        first = states.get(self._parameters[0][trial], {}).get(self._names[0])
        if first is self._rows[0][0][trial]:
            return
        for parameters, rows in zip(self._parameters, self._rows, strict=True):
            state = states.get(parameters[trial], {})
            for name, row in zip(self._names, rows, strict=True):
                moment = state.get(name)
                if moment is None:
                    row[trial].zero_()
                else:
                    row[trial].copy_(moment)
            self._taken[trial] = int(state["step"]) if "step" in state else 0

    def _clip_factors(self, grads: Sequence[Tensor]) -> Tensor:
        """Return (N,), the factor of the gradients of each trial, as in `clip_grad_norm_`."""
        if not self._clips:
            return torch.ones_like(self._limits)
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
        total = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factors: Tensor = self._limits / (total + NORM_EPS)
        return factors.clamp_(max=1)


class _StackedAverages:
    """The moving averages of trials, of which those in their updaters are views.

    A trial without one has unused memory, and its step does not change it.
    """

    def __init__(self, trainers: Sequence[Trainer], stacks: StackedParameters) -> None:
        """Allocate the averages, if any trial has one."""
        self._averages = [trainer.updater.average for trainer in trainers]
        names = [name for name, stacked in stacks.tensors.items() if stacked.requires_grad]
        any_average = any(average is not None for average in self._averages)
        self._weights = {name: stacks.tensors[name] for name in names if any_average}
        self._stacked: dict[str, Tensor] = {}
        for name, weights in self._weights.items():
            stacked = torch.zeros_like(weights, requires_grad=False)
            for row, average in zip(stacked.unbind(0), self._averages, strict=True):
                if average is not None:
                    average.others[name] = row.copy_(average.others[name])
            self._stacked[name] = stacked
        self._shares: Sequence[Tensor] = ()

    def start(self, steps: Sequence[int]) -> None:
        """Prepare an epoch; see `PackedUpdate.start`."""
        if not self._stacked:
            return
        shares = np.zeros((max(steps), len(steps)))
        for trial, (own, average) in enumerate(zip(steps, self._averages, strict=True)):
            if average is not None:
                numbers = np.arange(own, dtype=np.float64) + (average.steps + 1)
                shares[:own, trial] = 1 - average_decays(average.decay, numbers)
        table = torch.from_numpy(shares.astype(np.float32))  # (S, N)
        device = next(iter(self._stacked.values())).device
        self._shares = table.to(device, non_blocking=True).unbind(0)

    def step(self, step: int) -> None:
        """Average the weights after a step of the epoch."""
        for name, stacked in self._stacked.items():
            share = self._shares[step].view(-1, *(1,) * (stacked.dim() - 1))
            stacked.lerp_(self._weights[name].detach(), share)

    def finish(self, steps: Sequence[int]) -> None:
        """Count the steps of the epoch."""
        for own, average in zip(steps, self._averages, strict=True):
            if average is not None:
                average.steps += own


def step_settings(
    training: TrainingConfig, taken: int, steps: int, total: int, epoch: int = 0
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the settings of one trial for each step of an epoch, (S, W).

    Args:
        training: the settings of the trial.
        taken: its steps before this epoch.
        steps: its steps in this epoch; it does not take part in later ones.
        total: S.
        epoch: its completed epochs.
    """
    numbers = taken + 1.0 + np.arange(total)
    settings = np.zeros((total, WIDTH))
    settings[:steps, 0] = 1
    rates = np.full(total, training.learning_rate)
    if has_schedule(training):
        rates[:steps] = learning_rates(training, epoch, steps)
    decoupled = training.optimizer == "adamw"
    settings[:, 2] = 0 if decoupled else training.weight_decay
    settings[:, 6] = 1 - rates * training.weight_decay if decoupled else 1
    if training.optimizer != "sgd":
        settings[:, 1] = rates / (1 - BETA1**numbers)
        settings[:, 3], settings[:, 4] = 1 - BETA1, BETA1
        settings[:, 5] = 1 / np.sqrt(1 - BETA2**numbers)
    else:
        settings[:, 1] = rates
        settings[:, 3], settings[:, 4] = 1, training.momentum
    return settings


def try_update(device: torch.device) -> None:
    """Update one value, which compiles the kernel.

    Args:
        device: the GPU.
    """
    values = torch.zeros(1, 1, device=device)
    values.grad = torch.zeros_like(values)
    settings = torch.zeros(1, WIDTH, device=device)
    with _on_device(device):
        launch(values, [values.grad], settings, settings[:, 0], adam=True, shrinks=True)
    torch.cuda.synchronize(device)


def launch(
    stacked: Tensor,
    moments: Sequence[Tensor],
    settings: Tensor,
    factors: Tensor,
    *,
    adam: bool,
    shrinks: bool = False,
) -> None:
    """Update one parameter of all trials; without a gradient, nothing.

    Args:
        stacked: (N, ...), the parameter.
        moments: like `stacked`: one for SGD, two for Adam.
        settings: (N, W).
        factors: (N,), of the gradients.
        adam: Adam or SGD.
        shrinks: whether decoupled weight decay applies.
    """
    if stacked.grad is None:
        return
    count = stacked[0].numel()
    update[(-(-count // BLOCK), len(stacked))](
        stacked,
        stacked.grad.contiguous(),
        moments[0],
        moments[-1],
        settings,
        factors,
        count,
        BETA2,
        1 - BETA2,
        EPS,
        ADAM=adam,
        SHRINKS=shrinks,
        COLUMNS=WIDTH,
        BLOCK=BLOCK,
    )


def _on_device(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
