"""The classifier: embedding -> recurrent layers -> readout -> output layer.

Shapes: T time, B batch, V words, E embedding, H hidden, D directions, F readout features,
C classes, L = 1 for two classes and C for more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PAD
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig
from celltune.models.extensions import READOUTS
from celltune.models.layers.dropout import dropout, keep_mask
from celltune.models.layers.stack import RecurrentStack, create_cell
from celltune.models.network.input_checks import check_batch, missing_wide


class EmbeddingRows(NamedTuple):
    """The rows of the embedding that a batch uses."""

    table: Tensor
    """(U, E), the vectors of the distinct words of the batch."""
    indices: Tensor
    """(T, B), the row of `table` for each word."""
    padding_index: int | None
    """The row of `table` for padding; None if there is no padding."""


class TextClassifier(nn.Module):
    """A recurrent text classifier for padded batches. Padding does not change its results.

    Initial values: embedding N(0, `embedding_std`^2) with a zero row for padding, recurrent layers
    and output layer uniform in +-1/sqrt(fan-in), as in PyTorch, the latter times `output_scale`.
    Dropout draws from `generator`, so the global random state of PyTorch is never used.

    With `wide: add`, the logits are those of the network plus `wide_scale` times the outputs of a
    wide part, a linear model (Cheng et al. 2016), where `wide_scale` is trained and starts at 1.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        num_classes: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """Create the parameters.

        Args:
            config: the architecture.
            vocabulary_size: V, including the unknown word and padding.
            num_classes: C. Two classes have one logit (positive means class 1), more have C.
            generator: source of initial values and later of dropout; None: seeded with 0.

        Raises:
            TrialError: the config cannot be built, for example because it has too few layers, or
                no network at all (`wide: only`).
        """
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        table = torch.empty(vocabulary_size, config.embedding_size)
        table.normal_(std=config.embedding_std, generator=self.generator)
        table[PAD] = 0
        self.embedding = nn.Parameter(table)
        self.recurrent = RecurrentStack(
            create_cell(config),
            config.embedding_size,
            config.hidden_size,
            generator=self.generator,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.between_layers,
        )
        self.readout = READOUTS.load(config.readout)(config, self.generator)
        features, logits = self.readout.features, 1 if num_classes == 2 else num_classes
        self.output_weight = self._uniform((logits, features), features)
        self.output_bias = self._uniform((logits,), features)
        with torch.no_grad():
            for values in (self.output_weight, self.output_bias):
                values.mul_(config.output_scale)
        if config.wide == "add":
            self.wide_scale = nn.Parameter(torch.ones(1))

    def load_vectors(self, vectors: Tensor, *, trainable: bool) -> None:
        """Replace the initial values of the embedding with pretrained word vectors.

        Args:
            vectors: (V, E) float32.
            trainable: whether training updates them.

        Raises:
            DataError: the vectors and the embedding differ in shape.
        """
        if vectors.shape != self.embedding.shape:
            raise DataError(
                f"The word vectors have shape {tuple(vectors.shape)}, but the embedding has shape "
                f"{tuple(self.embedding.shape)}. Set space.embedding_size to the size of the "
                f"vectors, {vectors.shape[-1]}, or remove it."
            )
        with torch.no_grad():
            self.embedding.copy_(vectors)
        self.embedding.requires_grad_(trainable)

    def _uniform(self, shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
        bound = fan_in**-0.5
        values = torch.empty(shape).uniform_(-bound, bound, generator=self.generator)
        return nn.Parameter(values)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        rows: EmbeddingRows | None = None,
        wide: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        """Classify a batch.

        Args:
            ids: (T, B) int64 in [0, V), padded at the end. Ids in the padding are ignored.
            lengths: (B,) int64 in [1, T], preferably on the CPU: reading them there does not wait
                for a GPU.
            rows: the embedding rows of these ids, which are then not checked; None: the rows are
                read from the whole embedding.
            wide: (B, L) outputs of the wide part, which only `wide: add` reads.
            shift: (T, B, E), added to the word vectors.

        Returns:
            (B,) logits of class 1 for two classes, otherwise (B, C).

        Raises:
            DataError: an id or a length is out of range (not checked on a GPU), or the outputs are
                missing.
        """
        if rows is None:
            check_batch(ids, lengths, len(self.embedding))
            rows = EmbeddingRows(self.embedding, ids, PAD)
        cpu_lengths = lengths if lengths.device.type == "cpu" else None
        lengths = lengths.to(ids.device, non_blocking=True)
        mask = _token_mask(ids, lengths, cpu_lengths)
        embedded = functional.embedding(rows.indices, rows.table, rows.padding_index)  # (T, B, E)
        embedded = self._drop_words(embedded if shift is None else embedded + shift)
        embedded = self._dropout(embedded, self.config.of_embedding).transpose(1, 2)
        layers = self.recurrent.all_states(embedded, mask, self.generator)
        features = self._dropout(self.readout(layers, lengths, mask), self.config.dropout)  # (B, F)
        if self.config.output_relu:
            features = features.relu()
        logits = functional.linear(features, self.output_weight, self.output_bias)
        logits = logits.float() if logits.dtype.itemsize == 2 else logits
        if self.config.wide == "add":
            if wide is None:
                raise missing_wide("this batch")
            logits = logits + self.wide_scale * wide
        return logits.squeeze(1) if self.num_classes == 2 else logits

    def _drop_words(self, embedded: Tensor) -> Tensor:
        """Replace the vectors of random words, (T, B, E), by zero in training."""
        rate = self.config.word_dropout
        if not self.training or rate == 0.0:
            return embedded
        return embedded * keep_mask(embedded[:, :, 0], rate, self.generator)[:, :, None]

    def _dropout(self, values: Tensor, rate: float) -> Tensor:
        return dropout(values, rate, self.training, self.generator)


def _token_mask(ids: Tensor, lengths: Tensor, cpu_lengths: Tensor | None) -> Tensor | None:
    """Return (T, 1, B) bool, or None if the CPU knows that nothing is padded."""
    steps = ids.shape[0]
    if cpu_lengths is not None and int(cpu_lengths.min()) == steps:
        return None
    times = torch.arange(steps, device=ids.device)[:, None]
    return (times < lengths)[:, None, :]
