"""Share of the optimizer in the time of a training step, including clipping and lazy row updates.

The model is a classifier with one gru layer of size 64. Batches are drawn from 25,000 words by
Zipf's law. The first 40 steps are excluded: as in real training, most words of a batch have then
missed some updates.
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
from celltune.models.training.lazy_rows import LazyRowUpdates
from celltune.models.training.updater import Updater

WORDS, WARM_UP = 25_000, 40


class Stopwatch:
    """Total time in the functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def share(training: TrainingConfig, sizes: dict[str, Any]) -> float:
    """Return the median share of the optimizer in the time of a step."""
    generator = torch.Generator().manual_seed(1)
    config = ModelConfig(cell="gru", hidden_size=64, embedding_size=100, readout="max")
    model = TextClassifier(config, WORDS, 2, generator)
    frequencies = 1 / torch.arange(1, WORDS - 1)
    lengths = torch.full((sizes["batch"],), sizes["steps"])
    labels = torch.randint(0, 2, (sizes["batch"],), generator=generator).float()
    updater, watch = Updater(model, training), Stopwatch()
    updater.optimizer.step = watch.wrap(updater.optimizer.step)  # type: ignore[method-assign]
    clip, call = torch.nn.utils.clip_grad_norm_, LazyRowUpdates._call
    torch.nn.utils.clip_grad_norm_ = watch.wrap(clip)
    LazyRowUpdates._call = watch.wrap(call)  # type: ignore[method-assign]
    shares = []
    try:
        for number in range(WARM_UP + 4 * sizes["runs"]):
            count = sizes["steps"] * sizes["batch"]
            ids = 2 + torch.multinomial(frequencies, count, True, generator=generator)
            started, watch.seconds = time.perf_counter(), 0.0
            _learn(model, updater, ids.view(sizes["steps"], -1), lengths, labels)
            if number >= WARM_UP:
                shares.append(watch.seconds / (time.perf_counter() - started))
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
        LazyRowUpdates._call = call  # type: ignore[method-assign]
    return statistics.median(shares)


def _learn(
    model: TextClassifier,
    updater: Updater,
    ids: Tensor,
    lengths: Tensor,
    labels: Tensor,
) -> None:
    rows = updater.gather_rows(ids)
    logits = model(ids, lengths, rows)
    updater.step(functional.binary_cross_entropy_with_logits(logits, labels), rows)


def optimizer_shares(sizes: dict[str, Any]) -> dict[str, float]:
    """Return the share of each optimizer with one thread: lazy row updates, and dense updates.

    A weight decay changes every row in every step and therefore forces dense updates.
    """
    torch.set_num_threads(1)
    tiny = 1e-9
    return {
        "adam": share(TrainingConfig(), sizes),
        "sgd_momentum": share(TrainingConfig(optimizer="sgd"), sizes),
        "dense_adam": share(TrainingConfig(weight_decay=tiny), sizes),
        "dense_sgd_momentum": share(TrainingConfig(optimizer="sgd", weight_decay=tiny), sizes),
    }
