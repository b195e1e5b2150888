"""The optimizer's share of a training step: clipping, the steps, and making up for missed ones.

The model is a classifier with one gru layer of 64 over a vocabulary of 25,000 words, drawn by
Zipf's law, as they come in text. The first 40 steps are not counted: by then, as in training,
most words that a batch uses have missed some steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.network.classifier import TextClassifier
from celltune.models.training import lazy_rows as row_updates
from celltune.models.training import updater as optimizers

WORDS, WARM_UP = 25_000, 40


class Stopwatch:
    """Adds up the seconds spent in functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def share(training: TrainingConfig, sizes: dict[str, Any]) -> float:
    """The median over steps of the optimizer's time by the step's time."""
    generator = torch.Generator().manual_seed(1)
    config = ModelConfig(cell="gru", hidden_size=64, embedding_size=100, readout="max")
    model = TextClassifier(config, WORDS, 2, generator)
    frequencies = 1 / torch.arange(1, WORDS - 1)
    lengths = torch.full((sizes["batch"],), sizes["steps"])
    labels = torch.randint(0, 2, (sizes["batch"],), generator=generator).float()
    updater, watch = optimizers.Updater(model, training), Stopwatch()
    updater.optimizer.step = watch.wrap(updater.optimizer.step)  # type: ignore[method-assign]
    clip, call = torch.nn.utils.clip_grad_norm_, row_updates.LazyRowUpdates._call
    torch.nn.utils.clip_grad_norm_ = watch.wrap(clip)
    row_updates.LazyRowUpdates._call = watch.wrap(call)  # type: ignore[method-assign]
    shares = []
    try:
        for number in range(WARM_UP + 4 * sizes["runs"]):
            count = sizes["steps"] * sizes["batch"]
            ids = 2 + torch.multinomial(frequencies, count, True, generator=generator)
            begun, watch.seconds = time.perf_counter(), 0.0
            _learn(model, updater, ids.view(sizes["steps"], -1), lengths, labels)
            if number >= WARM_UP:
                shares.append(watch.seconds / (time.perf_counter() - begun))
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
        row_updates.LazyRowUpdates._call = call  # type: ignore[method-assign]
    return statistics.median(shares)


def _learn(
    model: TextClassifier,
    updater: optimizers.Updater,
    ids: Tensor,
    lengths: Tensor,
    labels: Tensor,
) -> None:
    words = updater.words(ids)
    logits = model(ids, lengths, words)
    updater.step(functional.binary_cross_entropy_with_logits(logits, labels), words)


def optimizer_shares(sizes: dict[str, Any]) -> dict[str, float]:
    """The share of each optimizer, one thread: adam and sgd by rows, and both dense.

    Dense is reached by a weight decay, which moves every row in every step.
    """
    torch.set_num_threads(1)
    tiny = 1e-9
    return {
        "adam": share(TrainingConfig(), sizes),
        "sgd_momentum": share(TrainingConfig(optimizer="sgd"), sizes),
        "dense_adam": share(TrainingConfig(weight_decay=tiny), sizes),
        "dense_sgd_momentum": share(TrainingConfig(optimizer="sgd", weight_decay=tiny), sizes),
    }
