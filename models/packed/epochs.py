"""Training and validation epochs of several trials in lockstep.

Shapes: N trials, S steps, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from celltune.data_prep.dataset.batching import evaluation_plan
from celltune.models.denormals import denormals_as_zero
from celltune.models.packed.batches import PackedBatch, PackedPlans
from celltune.models.packed.network import PackedNetwork
from celltune.models.packed.updates import make_update
from celltune.models.training.device_split import DeviceSplit
from celltune.models.training.losses import (
    TrainingLoss,
    correct_labels,
    document_losses,
    uniform_losses,
)
from celltune.models.training.metrics import Predictions, wide_gains
from celltune.models.training.precision import effective_precision, mixed_precision
from celltune.models.training.trainer import Trainer


class PackedEpochs:
    """Runs the epochs of trials of one shape. The weights of their trainers become views.

    An epoch reads no value from a GPU before its end.
    """

    def __init__(self, trainers: Sequence[Trainer], train: DeviceSplit, valid: DeviceSplit) -> None:
        """Stack the weights.

        Args:
            trainers: at least one, all of one shape and on the device of the splits.
            train: the training documents.
            valid: the validation documents.
        """
        self._trainers, self._train, self._valid = tuple(trainers), train, valid
        training = trainers[0].training
        self._sizes = training.batch_size, training.batch_tokens
        self._device = train.device.type
        self._precision = effective_precision(self._device, training.precision)
        self._network = PackedNetwork([trainer.model for trainer in trainers])
        self._update = make_update(self._trainers, self._network.stacks)
        self._loss = PackedLoss([trainer.loss for trainer in trainers], train.device)

    @denormals_as_zero()
    def train(self) -> list[tuple[Tensor, Tensor]]:
        """Train for one epoch.

        Returns:
            For each trial, on the CPU: the sum of the losses and the number of correct labels of
            each of its steps, for `Trainer.finish_training`.
        """
        plans = [trainer.start_epoch() for trainer in self._trainers]
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        batches = self._batches(self._train, plans)
        self._update.start(list(map(len, plans)))
        for batch in batches:
            batch_losses, batch_correct = self._step(batch)
            losses.append(batch_losses)
            correct.append(batch_correct)
        self._update.finish()
        for trainer in self._trainers:
            trainer.updater.finish()
        by_trial = zip(*(torch.stack(values, 1).cpu() for values in (losses, correct)), strict=True)
        return [
            (own_losses[: len(plan)], own_correct[: len(plan)])
            for plan, (own_losses, own_correct) in zip(plans, by_trial, strict=True)
        ]

    @denormals_as_zero()
    def evaluate(
        self, predictions: Sequence[Predictions | None]
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Evaluate on the validation split.

        Args:
            predictions: for each trial, the object that receives its predictions.

        Returns:
            For each trial, on the CPU: the sum of the losses and the number of correct labels of
            each batch, and the gains of the documents over the wide part, for
            `Trainer.finish_validation`.
        """
        size, budget = self._sizes
        plan = evaluation_plan(self._valid.split, size, token_budget=budget)
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        gains: list[Tensor] = []
        batches = self._batches(self._valid, [plan])
        with torch.inference_mode():
            for one in batches:
                batch = one.repeated(len(self._trainers))
                logits = self._forward(batch, training=False)
                batch_losses, batch_correct = _measure(logits, batch)
                losses.append(batch_losses)
                correct.append(batch_correct)
                _keep_predictions(predictions, batch, logits)
                if self._network.adds_wide and one.wide is not None:
                    gains.append(_gains(logits, one, one.wide[0]))
            stacked = (torch.stack(values, 1).cpu() for values in (losses, correct))
            by_trial = torch.cat(gains, 1).cpu() if gains else [None] * len(self._trainers)
        return list(zip(*stacked, by_trial, strict=True))

    def _batches(self, split: DeviceSplit, plans: Sequence[Sequence[object]]) -> PackedPlans:
        return PackedPlans(
            split,
            plans,  # type: ignore[arg-type]
            step_multiple=self._network.step_multiple,
            batch_multiple=self._network.batch_multiple,
        )

    def _forward(self, batch: PackedBatch, *, training: bool) -> Tensor:
        with mixed_precision(self._precision, self._device):
            return self._network.forward(batch, training=training)

    def _step(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Train on one batch of each trial; return (N,) sums of losses and correct labels."""
        logits = self._forward(batch, training=True)
        losses, correct = _measure(logits, batch)
        minimized = losses if self._loss.plain else self._loss(logits, batch)
        # A trial without documents in this batch has a sum and gradients of zero.
        means = minimized / batch.present.sum(1).clamp(min=1)
        self._network.stacks.clear_gradients()
        self._update.scale(means).sum().backward()  # type: ignore[no-untyped-call]
        self._network.clear_padding_gradient()
        self._update.step([documents > 0 for documents in batch.documents])
        return losses.detach(), correct


def _keep_predictions(
    receivers: Sequence[Predictions | None], batch: PackedBatch, logits: Tensor
) -> None:
    if not any(receivers):
        return
    kept = logits.clone()  # May be a reused buffer.
    for trial, (receiver, documents) in enumerate(zip(receivers, batch.documents, strict=True)):
        if receiver is not None:
            receiver.labels.append(batch.labels[trial, :documents])
            receiver.logits.append(kept[trial, :documents])


def _gains(logits: Tensor, one: PackedBatch, wide: Tensor) -> Tensor:
    """Return the gains of the documents of a validation batch over the wide part.

    Args:
        logits: (N, B) or (N, B, C).
        one: the batch of one trial.
        wide: (B, L), its outputs.

    Returns:
        (N, documents).
    """
    present, labels = slice(one.documents[0]), one.labels[0]
    return torch.stack([wide_gains(own[present], wide[present], labels[present]) for own in logits])


class PackedLoss:
    """What the training of each trial minimizes, see `TrainingLoss`."""

    def __init__(self, losses: Sequence[TrainingLoss], device: torch.device) -> None:
        """Stack the settings.

        Args:
            losses: of each trial.
            device: the device that trains.
        """
        self.plain = all(loss.plain for loss in losses)
        smoothing = [loss.smoothing for loss in losses]
        self._smoothing = torch.tensor(smoothing, device=device)[:, None]  # (N, 1)
        weights = [loss.weights for loss in losses if loss.weights is not None]
        ones = torch.ones_like(weights[0]) if weights else None
        rows = [ones if loss.weights is None else loss.weights for loss in losses]
        self._weights = torch.stack([row for row in rows if row is not None]) if weights else None

    def __call__(self, logits: Tensor, batch: PackedBatch) -> Tensor:
        """Return (N,) sums of the losses.

        Args:
            logits: (N, B) or (N, B, C).
            batch: the documents.
        """
        flat, labels, present = logits.flatten(0, 1), batch.labels, batch.present
        losses = document_losses(flat, labels.flatten()).view(present.shape)
        losses = torch.lerp(losses, uniform_losses(flat).view(present.shape), self._smoothing)
        if self._weights is not None:
            losses = losses * self._weights.gather(1, labels)
        return torch.where(present, losses, 0).sum(1)


def _measure(logits: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Return (N,) sums of the losses and numbers of correct labels."""
    flat, labels, present = logits.flatten(0, 1), batch.labels.flatten(), batch.present
    losses = document_losses(flat, labels).view(present.shape)
    correct = correct_labels(flat.detach(), labels).view(present.shape)
    return torch.where(present, losses, 0).sum(1), (correct & present).sum(1)
