"""The classifier: embedding -> recurrent layers -> readout -> logits.

Shapes: T time, B batch, V words, E embedding, H hidden, D directions, F = D * H features,
C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PAD
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig
from celltune.models.layers.dropout import dropout
from celltune.models.layers.stack import RecurrentStack
from celltune.models.network.input_checks import check_batch
from celltune.models.network.readout import final_state, max_state, mean_state


class WordRows(NamedTuple):
    """The part of the embedding that a batch uses."""

    table: Tensor
    """(U, E): the rows of the batch's words."""
    places: Tensor
    """(T, B): where in ``table`` each word stands."""
    padding: int | None
    """Where in ``table`` padding stands; None if nothing is padded."""


class TextClassifier(nn.Module):
    """A recurrent text classifier over padded batches, to which padding makes no difference.

    Starting values: embedding N(0, ``embedding_std``²) with a zero row for padding, recurrent part
    and output layer uniform in +-1/sqrt(fan-in), as torch's own modules start. Dropout draws from
    ``generator``, so neither building nor running the model touches torch's global random state.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        num_classes: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build the model.

        Args:
            config: what to build.
            vocabulary_size: V, with the unknown word and padding.
            num_classes: C; 2 gives one logit (positive means class 1), more give C.
            generator: where starting values come from and, later, dropout; seeded with 0 if None.
        """
        super().__init__()
        self.config, self.num_classes = config, num_classes
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        table = torch.empty(vocabulary_size, config.embedding_size)
        table.normal_(std=config.embedding_std, generator=self.generator)
        table[PAD] = 0
        self.embedding = nn.Parameter(table)
        self.recurrent = RecurrentStack(
            config.cell,
            config.embedding_size,
            config.hidden_size,
            generator=self.generator,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.between_layers,
            nonlinearity=config.nonlinearity,
        )
        features = config.hidden_size * (2 if config.bidirectional else 1)
        features *= 2 if config.readout == "last_two_layers" else 1
        logits = 1 if num_classes == 2 else num_classes
        self.output_weight = self._uniform((logits, features), features)
        self.output_bias = self._uniform((logits,), features)

    def start_from(self, vectors: Tensor, *, tuned: bool) -> None:
        """Put pretrained word vectors in place of the embedding's own starting values.

        Args:
            vectors: (V, E) float32.
            tuned: whether training goes on changing them.

        Raises:
            DataError: vectors of another shape than the embedding.
        """
        if vectors.shape != self.embedding.shape:
            raise DataError(
                f"The word vectors are of shape {tuple(vectors.shape)}, the embedding of "
                f"{tuple(self.embedding.shape)}; set space.embedding_size to the vectors' size, "
                f"{vectors.shape[-1]}, or leave it out."
            )
        with torch.no_grad():
            self.embedding.copy_(vectors)
        self.embedding.requires_grad_(tuned)

    def _uniform(self, shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
        bound = fan_in**-0.5
        values = torch.empty(shape).uniform_(-bound, bound, generator=self.generator)
        return nn.Parameter(values)

    def forward(self, ids: Tensor, lengths: Tensor, words: WordRows | None = None) -> Tensor:
        """Classify a batch.

        Args:
            ids: (T, B) int64 in [0, V), padded at the end. What stands in the padding is ignored.
            lengths: (B,) int64 in [1, T], best on the CPU, where a look at them never waits for a
                GPU.
            words: the rows of these ids, which then aren't checked; taken from the whole embedding
                if None.

        Returns:
            (B,) logits of class 1 for two classes, else (B, C).

        Raises:
            DataError: an id or a length is out of range, as far as they lie on the CPU.
        """
        if words is None:
            check_batch(ids, lengths, len(self.embedding))
        on_cpu = lengths if lengths.device.type == "cpu" else None
        lengths = lengths.to(ids.device, non_blocking=True)
        real = self._real_positions(ids, lengths, on_cpu)
        rows = WordRows(self.embedding, ids, PAD) if words is None else words
        embedded = functional.embedding(rows.places, rows.table, rows.padding)  # (T, B, E)
        embedded = self._dropped(embedded)
        below = embedded.transpose(1, 2)
        layers = self.recurrent.layers(below, real, self.generator, on_cpu)
        features = self._dropped(self._read(layers, lengths, real))  # (B, F)
        if self.config.output_relu:
            features = features.relu()
        logits = functional.linear(features, self.output_weight, self.output_bias)
        logits = logits.float() if logits.dtype.itemsize == 2 else logits
        return logits.squeeze(1) if self.num_classes == 2 else logits

    def _dropped(self, values: Tensor) -> Tensor:
        return dropout(values, self.config.dropout, self.training, self.generator)

    def _read(self, layers: list[Tensor], lengths: Tensor, real: Tensor | None) -> Tensor:
        size = self.config.hidden_size
        if self.config.readout == "last_two_layers":
            return torch.cat([final_state(states, lengths, size) for states in layers[-2:]], dim=1)
        if self.config.readout == "final":
            return final_state(layers[-1], lengths, size)
        if self.config.readout == "mean":
            return mean_state(layers[-1], lengths, real)
        return max_state(layers[-1], real)

    @staticmethod
    def _real_positions(ids: Tensor, lengths: Tensor, on_cpu: Tensor | None) -> Tensor | None:
        """(T, 1, B) bool, or None where a look at the lengths costs nothing and all are full."""
        steps = ids.shape[0]
        if on_cpu is not None and int(on_cpu.min()) == steps:
            return None
        times = torch.arange(steps, device=ids.device)[:, None]
        return (times < lengths)[:, None, :]
