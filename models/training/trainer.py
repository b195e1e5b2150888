"""Train and evaluate one model, an epoch at a time; the whole training state goes out and in.

Shapes: T time, B batch, C classes.

An epoch is a pure function of (config, seed, data, the state before it): batches and dropout are
drawn from generators seeded by (seed, epoch), and nothing random is kept between epochs. So a run
that was cut between two epochs and resumed gives the uncut run's numbers, bit for bit on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional

from celltune.data_prep.dataset.batching import (
    DocumentIndices,
    cut_batch,
    evaluation_plan,
    training_plan,
)
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.types import JSON
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.denormals import denormals_as_zero
from celltune.models.errors import CheckpointError, DivergedError
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.input_checks import check_split
from celltune.models.training.device_split import DeviceSplit
from celltune.models.training.precision import mixed, tensor_cores, used_on
from celltune.models.training.state import pack_state, same_config, unpack_state
from celltune.models.training.updater import Updater

CHECK_EVERY = 50
"""Steps between two looks at the loss on the CPU: rare enough to cost nothing, often enough to stop
soon. On a GPU a look would wait for all steps before it, so there is one at the epoch's end."""


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch came to. Losses are means over reviews (natural logarithm), accuracies shares.

    Training figures are those of the steps themselves, with dropout and a model in motion.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    """Wall time of training and validation together."""
    tokens_per_second: float
    """Training and validation tokens, without padding, by ``seconds``."""


@dataclass
class Predictions:
    """Predictions for a split, batch by batch, on the trainer's device."""

    labels: list[Tensor] = field(default_factory=list)
    """(B,) of each batch."""
    logits: list[Tensor] = field(default_factory=list)
    """(B,) or (B, C) of each batch."""

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the labels (n,) and the natural logarithms of the probabilities (n, C).

        The order of the documents is arbitrary and the same in each epoch.
        """
        logits = torch.cat(self.logits).double()
        if logits.dim() == 1:
            logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
        log_probabilities = functional.log_softmax(logits, dim=1)
        return torch.cat(self.labels).cpu().numpy(), log_probabilities.cpu().numpy()


class Trainer:
    """One model in training. Not thread-safe; touches no global random state.

    Attributes:
        model: the classifier.
        optimizer: torch's optimizer of the model's weights.
    """

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        *,
        train: TensorizedSplit,
        valid: TensorizedSplit,
        vocabulary_size: int,
        num_classes: int,
        seed: int,
        device: str = "cpu",
        vectors: NDArray[np.float32] | None = None,
        vectors_tuned: bool = True,
        resident: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Check the splits and build the model.

        Args:
            model: what to train.
            training: how.
            train: reviews to learn from.
            valid: reviews that decide.
            vocabulary_size: ids are below this.
            num_classes: labels are below this; at least 2.
            seed: decides starting values, the order of batches, and dropout.
            device: a torch device name.
            vectors: (V, E) what the embedding starts from; None: it draws its own values.
            vectors_tuned: whether training changes the vectors.
            resident: whether both splits lie on the device as a whole; None: on a GPU they do.
            clock: seconds from any starting point, never running backwards.

        Raises:
            DataError: a split is empty, has an empty review, or an id or label out of range.
        """
        for name, split in (("train", train), ("valid", valid)):
            check_split(split, name, vocabulary_size, num_classes)
        self._training, self._train, self._valid = training, train, valid
        self._seed, self._device, self._clock = seed, torch.device(device), clock
        self._precision = used_on(self._device.type, training.precision)
        self._epoch = 0
        stays = self._device.type != "cpu" if resident is None else resident
        self._resident = (
            {id(split): DeviceSplit(split, self._device) for split in (train, valid)}
            if stays
            else {}
        )
        generator = torch.Generator().manual_seed(_derived(seed, 0))
        built = TextClassifier(model, vocabulary_size, num_classes, generator)
        if vectors is not None:
            built.start_from(torch.tensor(vectors), tuned=vectors_tuned)
        self.model = built.to(self._device)
        self.model.generator = torch.Generator(self._device)
        self._updater = Updater(self.model, training, scaled=self._precision == "float16")
        self.optimizer = self._updater.optimizer
        self._configs: dict[str, BaseModel] = {"model": model, "training": training}
        self._identity: dict[str, JSON] = {
            "vocabulary_size": vocabulary_size,
            "num_classes": num_classes,
            "seed": seed,
        }

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._epoch

    @property
    def parameters(self) -> int:
        """The number of trained values; the row of padding counts, as torch counts it."""
        return sum(values.numel() for values in self.model.parameters())

    def run_epoch(self, predictions: Predictions | None = None) -> EpochMetrics:
        """Train for an epoch and evaluate on the validation split.

        Args:
            predictions: receives the predictions for the validation split.

        Returns:
            What came of it.

        Raises:
            DivergedError: a loss is no longer a number.
        """
        start = self._clock()
        with tensor_cores(self._precision):
            train_loss, train_accuracy = self.train_epoch()
            valid_loss, valid_accuracy = self.evaluate(self._valid, predictions)
        seconds = self._clock() - start
        tokens = len(self._train.ids) + len(self._valid.ids)
        speed = tokens / seconds if seconds > 0 else 0.0
        return EpochMetrics(
            epoch=self._epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            valid_loss=valid_loss,
            valid_accuracy=valid_accuracy,
            seconds=seconds,
            tokens_per_second=speed,
        )

    @denormals_as_zero()
    def train_epoch(self) -> tuple[float, float]:
        """Go through the training split once.

        Returns:
            The mean loss and the share of right answers, each review counting the same.

        Raises:
            DivergedError: a loss is no longer a number; the epoch doesn't count as done.
        """
        self.model.train()
        self.model.generator.manual_seed(_derived(self._seed, self._epoch + 1))
        plan = training_plan(
            self._train,
            self._training.batch_size,
            seed=self._seed,
            epoch=self._epoch,
            token_budget=self._training.batch_tokens,
        )
        sums: list[Tensor] = []
        rights: list[Tensor] = []
        try:
            for step, (ids, lengths, labels) in enumerate(self._cut(self._train, plan), start=1):
                loss_sum, right = self._step(ids, lengths, labels)
                sums.append(loss_sum)
                rights.append(right)
                if step % CHECK_EVERY == 0 and self._device.type == "cpu":
                    self._check_finite(sums, "training")
        finally:
            self._updater.settle()
        self._check_finite(sums, "training")
        self._epoch += 1
        return self._means(sums, rights, len(self._train))

    @denormals_as_zero()
    def evaluate(
        self, split: TensorizedSplit, predictions: Predictions | None = None
    ) -> tuple[float, float]:
        """Classify a split as it is, without learning.

        Args:
            split: reviews with ids and labels in the ranges that the trainer was built for.
            predictions: receives the predictions for the split.

        Returns:
            The mean loss and the share of right answers, each review counting the same.

        Raises:
            DataError: the split is empty, has an empty review, or an id or label out of range.
            DivergedError: the loss is no longer a number.
        """
        if split is not self._valid:
            check_split(split, "evaluated", len(self.model.embedding), self.model.num_classes)
        self.model.eval()
        sums: list[Tensor] = []
        rights: list[Tensor] = []
        with torch.inference_mode():
            size, budget = self._training.batch_size, self._training.batch_tokens
            plan = evaluation_plan(split, size, token_budget=budget)
            for ids, lengths, labels in self._cut(split, plan):
                with mixed(self._precision, self._device.type):
                    logits = self.model(ids, lengths)
                sums.append(_loss_sum(logits, labels))
                rights.append(_right(logits, labels))
                if predictions is not None:
                    predictions.labels.append(labels)
                    predictions.logits.append(logits.clone())  # May be a reused buffer.
        self._check_finite(sums, "evaluation")
        return self._means(sums, rights, len(split))

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The whole training state: weights and optimizer as tensors, position and config as JSON.

        Returns:
            Copies on the CPU, for ``models.checkpoint.save``.
        """
        configs = {name: value.model_dump(mode="json") for name, value in self._configs.items()}
        tensors = pack_state(self.model, self.optimizer)
        position: dict[str, JSON] = {
            "epoch": self._epoch,
            "loss_scale": self._updater.loss_scale.state(),
        }
        return tensors, {**position, **configs, **self._identity}

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, JSON]) -> None:
        """Go on from a state; nothing is changed if it doesn't fit.

        Args:
            tensors: as ``state`` gave them.
            meta: as ``state`` gave it.

        Raises:
            CheckpointError: the state is of another config, seed, or shape.
        """
        fits: dict[str, tuple[bool, object]] = {
            **{k: (same_config(v, meta.get(k)), v.model_dump()) for k, v in self._configs.items()},
            **{key: (meta.get(key) == mine, mine) for key, mine in self._identity.items()},
        }
        for key, (fit, mine) in fits.items():
            if not fit:
                raise CheckpointError(
                    f"The state is of another trial: its {key} is {meta.get(key)!r}, this trial's "
                    f"is {mine!r}. Load it into a Trainer built with the same {key}."
                )
        epoch = meta.get("epoch")
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
            raise CheckpointError(
                f"The state's epoch is {epoch!r}; it must be a whole number from 0 on. "
                "Load a state as Trainer.state() gave it."
            )
        scale = meta.get("loss_scale")
        self._updater.loss_scale.check(scale)
        unpack_state(self.model, self.optimizer, tensors)
        self._updater.loss_scale.load(scale)
        self._updater.restart()
        self._epoch = epoch

    def _step(self, ids: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Learn from one batch; returns the sum of its losses and its right answers."""
        words = self._updater.words(ids)
        with mixed(self._precision, self._device.type):
            logits = self.model(ids, lengths, words)
        loss_sum = _loss_sum(logits, labels)
        self._updater.step(loss_sum / len(labels), words)
        return loss_sum.detach(), _right(logits.detach(), labels)

    def _cut(
        self, split: TensorizedSplit, plan: list[DocumentIndices]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches on the device: cut there of what lies there, else cut here and sent."""
        known = self._resident.get(id(split))
        if known is not None:
            yield from map(known.batch, plan)
            return
        for batch in (cut_batch(split, chosen) for chosen in plan):
            # Lengths stay: whoever looks at them on the CPU doesn't wait for a GPU.
            lengths = torch.from_numpy(batch.lengths)
            ids, labels = (
                torch.from_numpy(values).to(self._device, non_blocking=True)
                for values in (batch.ids, batch.labels)
            )
            yield ids, lengths, labels

    def _check_finite(self, sums: list[Tensor], part: str) -> None:
        broken = (~torch.isfinite(torch.stack(sums))).nonzero()
        if len(broken):
            epoch = self._epoch + (1 if part == "training" else 0)
            raise DivergedError(
                f"The {part} loss is no longer a number at epoch {epoch}, step "
                f"{int(broken[0]) + 1}, with learning rate {self._training.learning_rate:g} and "
                f"gradient_clip {self._training.gradient_clip}. Try a learning rate ten times "
                "smaller, or a gradient_clip of 1.0 or below."
            )

    @staticmethod
    def _means(sums: list[Tensor], rights: list[Tensor], reviews: int) -> tuple[float, float]:
        loss = float(torch.stack(sums).double().sum()) / reviews
        return loss, int(torch.stack(rights).sum()) / reviews


def _derived(seed: int, epoch: int) -> int:
    """A 63-bit seed for one purpose (0 starting values, else the epoch), unlike its neighbours'."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) or (B, C) logits -> the sum of the batch's cross entropies."""
    if logits.dim() == 1:
        targets = labels.to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return functional.cross_entropy(logits, labels, reduction="sum")


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of a batch are classified right."""
    answers = (logits > 0).long() if logits.dim() == 1 else logits.argmax(1)
    return (answers == labels).sum()
