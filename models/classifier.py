"""The classifier: embedding -> recurrent layers -> readout -> logits.

Shapes: T time, B batch, V words, E embedding, H hidden, D directions, F = D * H features,
C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.dataset import PAD
from data_prep.errors import DataError
from models.config import ModelConfig
from models.dropout import dropout
from models.readout import final_state, max_state, mean_state
from models.recurrent import RecurrentStack


class SentimentClassifier(nn.Module):
    """A recurrent text classifier over padded batches, to which padding makes no difference.

    Starting values: embedding N(0, 1) with a zero row for padding, recurrent part and output layer
    uniform in +-1/sqrt(fan-in), all as torch's own modules start. Dropout draws from ``generator``,
    so neither building nor running the model touches torch's global random state.
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
        table.normal_(generator=self.generator)
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
        )
        features = config.hidden_size * (2 if config.bidirectional else 1)
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

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            ids: (T, B) int64 in [0, V), padded at the end. What stands in the padding is ignored.
            lengths: (B,) int64 in [1, T]. Not checked here: ``Trainer`` checks a split once.

        Returns:
            (B,) logits of class 1 for two classes, else (B, C).
        """
        real = self._real_positions(ids, lengths)
        embedded = functional.embedding(ids, self.embedding, padding_idx=PAD)  # (T, B, E)
        embedded = self._dropped(embedded)
        states = self.recurrent(embedded.transpose(1, 2), real, self.generator)  # (T, F, B)
        features = self._dropped(self._read(states, lengths, real))  # (B, F)
        logits = functional.linear(features, self.output_weight, self.output_bias)
        return logits.squeeze(1) if self.num_classes == 2 else logits

    def _dropped(self, values: Tensor) -> Tensor:
        return dropout(values, self.config.dropout, self.training, self.generator)

    def _read(self, states: Tensor, lengths: Tensor, real: Tensor | None) -> Tensor:
        if self.config.readout == "final":
            return final_state(states, lengths, self.config.hidden_size)
        if self.config.readout == "mean":
            return mean_state(states, lengths, real)
        return max_state(states, real)

    @staticmethod
    def _real_positions(ids: Tensor, lengths: Tensor) -> Tensor | None:
        """(T, 1, B) bool, or None where a look at the lengths costs nothing and all are full."""
        steps = ids.shape[0]
        if lengths.device.type == "cpu" and int(lengths.min()) == steps:
            return None
        times = torch.arange(steps, device=ids.device)[:, None]
        return (times < lengths)[:, None, :]
