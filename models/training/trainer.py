"""Training and evaluation of one model, epoch by epoch, with a state that can be saved.

Shapes: T time, B batch, C classes.

An epoch is a pure function of (config, seed, data, previous state). Batches and dropout are drawn
from generators seeded by (seed, epoch), and no random state is carried from one epoch to the next.
A training that is interrupted between two epochs and resumed gives the same numbers as an
uninterrupted one, bit for bit on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from celltune.data_prep.dataset.batching import (
    DocumentIndices,
    evaluation_plan,
    training_plan,
)
from celltune.data_prep.dataset.tensorized import PAD, PreparedData, TensorizedSplit
from celltune.data_prep.types import JSON
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.denormals import denormals_as_zero
from celltune.models.network.adversarial import adversarial_shift
from celltune.models.network.classifier import EmbeddingRows, TextClassifier
from celltune.models.network.input_checks import check_split, check_wide
from celltune.models.network.predict import log_probabilities
from celltune.models.training.averages import read_steps
from celltune.models.training.device_split import Batches, BatchTensors
from celltune.models.training.devices import check_device
from celltune.models.training.losses import (
    TrainingLoss,
    correct_labels,
    diverged,
    first_not_finite,
    loss_sum,
    means,
)
from celltune.models.training.metrics import (
    EpochMetrics,
    Evaluation,
    Predictions,
    mean_gain,
    wide_gains,
)
from celltune.models.training.precision import effective_precision, mixed_precision, tf32_products
from celltune.models.training.state import check_identity, pack_state, read_epoch, unpack_state
from celltune.models.training.updater import Updater

CHECK_EVERY = 50
"""Steps between two checks of the loss on the CPU: rare enough to cost nothing, and frequent enough
to stop early. On a GPU a check would wait for all previous steps, so the loss is checked only at
the end of an epoch."""


class Trainer:
    """One model in training. Not thread-safe. Does not use global random state.

    Attributes:
        model: the classifier.
        optimizer: the PyTorch optimizer of its weights.
        updater: applies gradients with it.
        loss: what training minimizes; the metrics contain the cross-entropy.
        training: the settings of the training.
        wide_parameters: how many of `parameters` belong to the wide part.
    """

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        data: PreparedData,
        *,
        seed: int,
        device: str = "cpu",
        keep_on_device: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Check the splits and create the model.

        Args:
            model: the architecture.
            training: the optimizer and its settings.
            data: the splits, the sizes of vocabulary and classes, and optional word vectors.
            seed: determines the initial values, the order of batches, and dropout.
            device: a PyTorch device name.
            keep_on_device: whether both splits are stored on the device; None: only on a GPU.
            clock: a monotonic clock in seconds.

        Raises:
            DataError: a split is empty, has an empty document, or an id or label out of range; the
                word vectors have another size than the embedding; or the model reads outputs of a
                wide part, and the data has none.
            DeviceError: torch cannot use the GPU, or the GPU cannot compute in the precision.
            TrialError: the model cannot be built, for example because it has too few layers.
        """
        check_device(torch.device(device), training.precision)
        for name, split in (("train", data.train), ("valid", data.valid)):
            check_split(split, name, data.vocabulary_size, data.num_classes)
            if model.wide == "add":
                check_wide(split, name, data.num_classes)
        self.training, self._train, self._valid = training, data.train, data.valid
        self._seed, self._device, self._clock = seed, torch.device(device), clock
        self._precision = effective_precision(self._device.type, training.precision)
        self._epoch = 0
        self.wide_parameters = data.wide_parameters if model.wide == "add" else 0
        if keep_on_device is None:
            keep_on_device = self._device.type != "cpu"
        stored = (data.train, data.valid) if keep_on_device else ()
        self._batches = Batches(self._device, stored)
        self.model = self._create_model(model, data)
        self.updater = Updater(self.model, training, scaled=self._precision == "float16")
        self.optimizer = self.updater.optimizer
        self.loss = TrainingLoss(training, data.train.labels, data.classes).to(self._device)
        self._configs: dict[str, BaseModel] = {"model": model, "training": training}
        self._identity: dict[str, JSON] = {
            "vocabulary_size": data.vocabulary_size,
            "num_classes": data.num_classes,
            "seed": seed,
        }

    def _create_model(self, config: ModelConfig, data: PreparedData) -> TextClassifier:
        generator = torch.Generator().manual_seed(_derive_seed(self._seed, 0))
        model = TextClassifier(config, data.vocabulary_size, data.num_classes, generator)
        if data.vectors is not None:
            model.load_vectors(torch.tensor(data.vectors), trainable=data.vectors_tuned)
        model = model.to(self._device)
        model.generator = torch.Generator(self._device)
        return model

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self._epoch

    @property
    def parameters(self) -> int:
        """Number of parameters, including the embedding row of padding and the wide part's."""
        own = sum(values.numel() for values in self.model.parameters())
        return own + self.wide_parameters

    def run_epoch(self, predictions: Predictions | None = None) -> EpochMetrics:
        """Train for one epoch and evaluate on the validation split.

        Args:
            predictions: receives the predictions for the validation split.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        start = self._clock()
        with tf32_products(self._precision):
            training = self.train_epoch()
            validation = self._evaluate(self._valid, predictions)
        return self.metrics(training, validation, self._clock() - start)

    def metrics(
        self, training: tuple[float, float], validation: Evaluation, seconds: float
    ) -> EpochMetrics:
        """Return the metrics of the last epoch.

        Args:
            training: mean loss and accuracy of the training.
            validation: the metrics of the validation split.
            seconds: wall-clock time of both.
        """
        tokens = len(self._train.ids) + len(self._valid.ids)
        speed = tokens / seconds if seconds > 0 else 0.0
        measured, gain = validation[:2], validation[2:]
        return EpochMetrics(self._epoch, *training, *measured, seconds, speed, *gain)

    @denormals_as_zero()
    def train_epoch(self) -> tuple[float, float]:
        """Train for one epoch.

        Returns:
            The mean loss and the accuracy over all training documents.

        Raises:
            DivergedError: a loss is NaN or infinite; `epoch` is not increased.
        """
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        try:
            batches = self._batches.of(self._train, self.start_epoch())
            for step, batch in enumerate(batches, start=1):
                batch_loss, batch_correct = self._step(batch)
                losses.append(batch_loss)
                correct.append(batch_correct)
                if step % CHECK_EVERY == 0 and self._device.type == "cpu":
                    self._check_finite(torch.stack(losses), "training")
        finally:
            self.updater.finish()
        return self.finish_training(torch.stack(losses), torch.stack(correct))

    def start_epoch(self) -> list[DocumentIndices]:
        """Prepare the next epoch and return the documents of each of its batches."""
        self.model.train()
        self.model.generator.manual_seed(_derive_seed(self._seed, self._epoch + 1))
        plan = training_plan(
            self._train,
            self.training.batch_size,
            seed=self._seed,
            epoch=self._epoch,
            token_budget=self.training.batch_tokens,
        )
        self.updater.start(self._epoch, len(plan))
        return plan

    def finish_training(self, losses: Tensor, correct: Tensor) -> tuple[float, float]:
        """Count the epoch as completed and return its mean loss and accuracy.

        Args:
            losses: the sum of the losses of each step.
            correct: the number of correct labels of each step.

        Raises:
            DivergedError: a loss is NaN or infinite; `epoch` is not increased.
        """
        self._check_finite(losses, "training")
        self._epoch += 1
        return means(losses, correct, len(self._train))

    def finish_validation(
        self, losses: Tensor, correct: Tensor, gains: Tensor | None = None
    ) -> Evaluation:
        """Return the metrics of the validation split.

        Args:
            losses: see `finish_training`.
            correct: see `finish_training`.
            gains: (n,), the loss of the wide part minus that of the model, of each document.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        return self._finish_evaluation(losses, correct, gains, len(self._valid))

    def evaluate(self, split: TensorizedSplit) -> tuple[float, float]:
        """Evaluate the model on a split.

        Args:
            split: documents with ids and labels in the ranges of the training data.

        Returns:
            The mean loss and the accuracy over all documents.

        Raises:
            DataError: the split is empty, has an empty document, an id or label out of range, or
                no outputs of the wide part although the model reads them.
            DivergedError: the loss is NaN or infinite.
        """
        self._check(split)
        return self._evaluate(split)[:2]

    def log_probabilities(self, split: TensorizedSplit, batch_size: int) -> NDArray[np.float64]:
        """Return the natural logarithms of the probabilities of all classes, (n, C).

        Args:
            split: see `evaluate`.
            batch_size: documents per batch, on which the result does not depend.

        Raises:
            DataError: see `evaluate`.
        """
        self._check(split)
        return log_probabilities(self.model, split, batch_size=batch_size)

    def _check(self, split: TensorizedSplit) -> None:
        check_split(split, "evaluated", len(self.model.embedding), self.model.num_classes)
        if self.model.config.wide == "add":
            check_wide(split, "evaluated", self.model.num_classes)

    @denormals_as_zero()
    def _evaluate(
        self, split: TensorizedSplit, predictions: Predictions | None = None
    ) -> Evaluation:
        self.model.eval()
        losses: list[Tensor] = []
        correct: list[Tensor] = []
        gains: list[Tensor] = []
        with torch.inference_mode():
            size, budget = self.training.batch_size, self.training.batch_tokens
            plan = evaluation_plan(split, size, token_budget=budget)
            for ids, lengths, labels, wide in self._batches.of(split, plan):
                with mixed_precision(self._precision, self._device.type):
                    logits = self.model(ids, lengths, wide=wide)
                losses.append(loss_sum(logits, labels))
                correct.append(correct_labels(logits, labels).sum())
                if wide is not None and self.model.config.wide == "add":
                    gains.append(wide_gains(logits, wide, labels))
                if predictions is not None:
                    predictions.labels.append(labels)
                    predictions.logits.append(logits.clone())  # May be a reused buffer.
        all_gains = torch.cat(gains) if gains else None
        return self._finish_evaluation(
            torch.stack(losses), torch.stack(correct), all_gains, len(split)
        )

    def _finish_evaluation(
        self, losses: Tensor, correct: Tensor, gains: Tensor | None, documents: int
    ) -> Evaluation:
        self._check_finite(losses, "evaluation")
        gain = () if gains is None else mean_gain(gains)
        return Evaluation(*means(losses, correct, documents), *gain)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Return the training state: weights and optimizer as tensors, the rest as JSON.

        Returns:
            Copies on the CPU, for `checkpoint.save`.
        """
        configs = {name: value.model_dump(mode="json") for name, value in self._configs.items()}
        average = self.updater.average
        tensors = pack_state(self.model, self.optimizer, average.others if average else {})
        position: dict[str, JSON] = {
            "epoch": self._epoch,
            "loss_scale": self.updater.loss_scale.state(),
        }
        if average is not None:
            position["averaged_steps"] = average.steps
        return tensors, {**position, **configs, **self._identity}

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, JSON]) -> None:
        """Continue from a state. If it does not match, nothing is changed.

        Args:
            tensors: the tensors that `state` returned.
            meta: the other values that `state` returned.

        Raises:
            CheckpointError: the state has another config, seed, or shape.
        """
        check_identity(self._configs, self._identity, meta)
        epoch = read_epoch(meta)
        scale = meta.get("loss_scale")
        self.updater.loss_scale.validate(scale)
        average = self.updater.average
        steps = 0 if average is None else read_steps(meta.get("averaged_steps"))
        likes = {} if average is None else average.others
        most = epoch * len(self._train)  # A step has at least one document.
        weights = unpack_state(self.model, self.optimizer, likes, tensors, most_steps=most)
        if average is not None:
            average.load(weights, steps)
        self.updater.loss_scale.load(scale)
        self.updater.reload()
        self._epoch = epoch

    def _step(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        """Train on one batch; return the sum of its losses and the number of correct labels."""
        rows, labels = self.updater.gather_rows(batch.ids), batch.labels
        if self.training.adversarial:
            logits = self._adversarial_step(batch, rows)
            return loss_sum(logits, labels), correct_labels(logits, labels).sum()
        logits = self._forward(batch, rows)
        cross_entropy = loss_sum(logits, labels)
        loss = cross_entropy if self.loss.plain else self.loss(logits, labels).sum()
        self.updater.step(loss / len(labels), rows)
        return cross_entropy.detach(), correct_labels(logits.detach(), labels).sum()

    def _adversarial_step(self, batch: BatchTensors, rows: EmbeddingRows | None) -> Tensor:
        """Train on a batch and on its perturbed word vectors; return the logits of the former."""
        self.optimizer.zero_grad(set_to_none=True)
        size = (*batch.ids.shape, self.model.config.embedding_size)
        shift = torch.zeros(size, device=batch.ids.device, requires_grad=True)
        logits = self._forward(batch, rows, shift)
        self.updater.backward(self.loss(logits, batch.labels).mean())
        used = rows or EmbeddingRows(self.model.embedding, batch.ids, PAD)
        worst = adversarial_shift(shift, used, batch.lengths, self.training.adversarial)
        perturbed = self._forward(batch, rows, worst)
        self.updater.backward(self.loss(perturbed, batch.labels).mean())
        self.updater.apply(rows)
        return logits.detach()

    def _forward(
        self, batch: BatchTensors, rows: EmbeddingRows | None, shift: Tensor | None = None
    ) -> Tensor:
        with mixed_precision(self._precision, self._device.type):
            logits: Tensor = self.model(batch.ids, batch.lengths, rows, batch.wide, shift)
        return logits

    def _check_finite(self, losses: Tensor, phase: str) -> None:
        step = first_not_finite(losses)
        if step is not None:
            epoch = self._epoch + (1 if phase == "training" else 0)
            raise diverged(phase, epoch, step + 1, self.training)


def _derive_seed(seed: int, epoch: int) -> int:
    """Return an independent 63-bit seed of an epoch; 0 is the seed of the initial values."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
