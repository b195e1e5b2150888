"""Trains several trials of one shape side by side.

Trials join and leave between epochs. Each has its own hyperparameters, seed and order of documents,
and the numbers and checkpoints of its own `Trainer`, see docs/models.md for the bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.types import JSON
from celltune.models.config import ModelConfig, PackShape, TrainingConfig, pack_shape
from celltune.models.errors import DivergedError, TrialError
from celltune.models.packed.choice import runs_batched
from celltune.models.packed.epochs import PackedEpochs
from celltune.models.packed.stacks import own_memory
from celltune.models.training.device_split import shared_split
from celltune.models.training.metrics import EpochMetrics, Evaluation, Predictions
from celltune.models.training.precision import effective_precision, tf32_products
from celltune.models.training.trainer import Trainer
from celltune.models.training.wide_only import WideOnly, create_trainer


class PackedMember:
    """One trial in a pack, with the position and the checkpoints of a `Trainer`.

    Attributes:
        trainer: the trainer that the trial would have in a single run. While the trial is in a
            pack, only the pack may train it.
        model: the architecture.
        training: the settings of the training.
    """

    def __init__(
        self, trainer: Trainer | WideOnly, model: ModelConfig, training: TrainingConfig
    ) -> None:
        """Create a member; use `PackedTrainer.add`.

        Args:
            trainer: the trainer of the trial.
            model: the architecture.
            training: the settings of the training.
        """
        self.trainer, self.model, self.training = trainer, model, training

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self.trainer.epoch

    @property
    def parameters(self) -> int:
        """Number of parameters; see `Trainer.parameters`."""
        return self.trainer.parameters

    @property
    def wide_parameters(self) -> int:
        """Number of these that belong to the wide part."""
        return self.trainer.wide_parameters

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Return the training state; see `Trainer.state`."""
        return self.trainer.state()

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, JSON]) -> None:
        """Continue from a state; see `Trainer.load_state`.

        Args:
            tensors: the tensors that `state` returned, here or in a `Trainer`.
            meta: the other values that `state` returned.

        Raises:
            CheckpointError: the state has another config, seed, or shape.
        """
        self.trainer.load_state(tensors, meta)


class PackedTrainer:
    """Trials of one shape in training. Not thread-safe. Does not use global random state.

    The weights of all members are stacked in memory at the start of an epoch after members have
    joined or left. If an epoch raises an error, such as `torch.OutOfMemoryError`, members may have
    trained for a part of it: load their last states before they continue.
    """

    def __init__(
        self,
        data: PreparedData,
        *,
        device: str = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Create an empty pack.

        Args:
            data: the splits, the sizes of vocabulary and classes, and optional word vectors.
            device: a PyTorch device name.
            clock: a monotonic clock in seconds.
        """
        self._data, self._device, self._clock = data, device, clock
        self._members: tuple[PackedMember, ...] = ()
        self._shape: PackShape = ()
        self._stacked: tuple[tuple[PackedMember, ...], PackedEpochs] | None = None

    @property
    def members(self) -> tuple[PackedMember, ...]:
        """The members in the order in which they joined."""
        return self._members

    def add(self, model: ModelConfig, training: TrainingConfig, *, seed: int) -> PackedMember:
        """Add a trial that starts at epoch 0, or where `PackedMember.load_state` sets it.

        Args:
            model: the architecture.
            training: the settings of the training.
            seed: determines the initial values, the order of batches, and dropout.

        Raises:
            TrialError: the shape differs from that of the members, or the model cannot be built.
            DataError: a split cannot be used with this model.
        """
        shape = pack_shape(model, training)
        if self._members:
            _check_shape(dict(shape), dict(self._shape))
        trainer = create_trainer(
            model, training, self._data, seed=seed, device=self._device, clock=self._clock
        )
        member = PackedMember(trainer, model, training)
        self._shape, self._members = shape, (*self._members, member)
        return member

    def remove(self, member: PackedMember) -> None:
        """Remove a trial. Its state remains valid.

        Args:
            member: a member of this pack.

        Raises:
            ValueError: it is not a member.
        """
        if member not in self._members:
            raise ValueError(
                "The trial is not a member of this pack. Remove only objects in `members`."
            )
        self._members = tuple(other for other in self._members if other is not member)
        self._stacked = None
        if isinstance(member.trainer, Trainer):
            own_memory(member.trainer.model, member.trainer.optimizer)
            if member.trainer.updater.average is not None:
                member.trainer.updater.average.own_memory()

    def run_epoch(
        self, predictions: Mapping[PackedMember, Predictions] = {}
    ) -> dict[PackedMember, EpochMetrics | DivergedError]:
        """Train each member for one epoch and evaluate it on the validation split.

        A member whose loss is NaN or infinite is removed; the others are not affected.

        Args:
            predictions: for some members, objects that receive the predictions for the validation
                split.

        Returns:
            The metrics of each member, or the error of its divergence. If the members are computed
            as one model, `seconds` is an equal share of the pack's time, so that the sum over all
            trials of a search is the time of its workers.
        """
        if not self._members:
            return {}
        model, training = self._members[0].model, self._members[0].training
        if not runs_batched(model, training, self._device):
            return self._run_one_by_one(predictions)
        precision = effective_precision(torch.device(self._device).type, training.precision)
        with tf32_products(precision):
            return self._run_batched(predictions)

    def _run_one_by_one(
        self, predictions: Mapping[PackedMember, Predictions]
    ) -> dict[PackedMember, EpochMetrics | DivergedError]:
        results: dict[PackedMember, EpochMetrics | DivergedError] = {}
        for member in self._members:
            try:
                results[member] = member.trainer.run_epoch(predictions.get(member))
            except DivergedError as error:
                results[member] = error
                self.remove(member)
        return results

    def _run_batched(
        self, predictions: Mapping[PackedMember, Predictions]
    ) -> dict[PackedMember, EpochMetrics | DivergedError]:
        start, members, trainers = self._clock(), self._members, self._trainers()
        results: dict[PackedMember, EpochMetrics | DivergedError] = {}
        trained: dict[PackedMember, tuple[float, float]] = {}
        for member, values in zip(members, self._epochs().train(), strict=True):
            try:
                trained[member] = trainers[member].finish_training(*values)
            except DivergedError as error:
                results[member] = error
        self._remove_all(results)
        validated: dict[PackedMember, Evaluation] = {}
        if self._members:
            receivers = [predictions.get(member) for member in self._members]
            for member, measured in zip(
                self._members, self._epochs().evaluate(receivers), strict=True
            ):
                try:
                    validated[member] = trainers[member].finish_validation(*measured)
                except DivergedError as error:
                    results[member] = error
        self._remove_all(results)
        seconds = (self._clock() - start) / len(members)
        for member, validation in validated.items():
            results[member] = trainers[member].metrics(trained[member], validation, seconds)
        return {member: results[member] for member in members}

    def _trainers(self) -> dict[PackedMember, Trainer]:
        """Return the trainers of the members, which have a network if they run batched."""
        pairs = ((member, member.trainer) for member in self._members)
        return {member: trainer for member, trainer in pairs if isinstance(trainer, Trainer)}

    def _remove_all(self, members: Mapping[PackedMember, object]) -> None:
        for member in self._members:
            if member in members:
                self.remove(member)

    def _epochs(self) -> PackedEpochs:
        """Return the stacked members, which are stacked again if others joined or left."""
        if self._stacked is None or self._stacked[0] != self._members:
            self._stacked = None  # frees the memory before new memory is allocated
            device = torch.device(self._device)
            train, valid = (
                shared_split(split, device) for split in (self._data.train, self._data.valid)
            )
            trainers = list(self._trainers().values())
            self._stacked = self._members, PackedEpochs(trainers, train, valid)
        return self._stacked[1]


def _check_shape(shape: dict[str, object], expected: dict[str, object]) -> None:
    for name, value in shape.items():
        if value != expected[name]:
            raise TrialError(
                f"The trial's {name} is {value!r}, but the members of the pack have "
                f"{expected[name]!r}. Put the trial into a pack of its own shape."
            )
