"""Straightforward PyTorch baseline: bidirectional GRU with DataLoader and PackedSequence."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.config import ModelConfig

Example = tuple[Tensor, int]


class PlainClassifier(nn.Module):
    """Embedding, `nn.GRU` over a PackedSequence, maximum over time, output layer."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, config.embedding_size, padding_idx=1)
        self.gru = nn.GRU(
            config.embedding_size, config.hidden_size, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * config.hidden_size, 1)

    def forward(self, texts: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(texts))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, padding_value=-torch.inf
        )
        largest: Tensor = states.max(dim=1).values
        logits: Tensor = self.output(self.dropout(largest)).squeeze(1)
        return logits


def _collate(batch: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    texts, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(text) for text in texts])
    padded = pad_sequence(list(texts), batch_first=True, padding_value=1)
    return padded, lengths, torch.tensor(labels, dtype=torch.float)


def plain_epoch(config: ModelConfig, split: TensorizedSplit, words: int, rate: float) -> float:
    """Train for one epoch and return its duration in seconds."""
    torch.manual_seed(1)
    texts = np.split(split.ids.astype(np.int64), split.offsets[1:-1])
    pairs = list(zip(map(torch.from_numpy, texts), split.labels.tolist(), strict=True))
    loader: DataLoader[Example] = DataLoader(
        pairs,  # type: ignore[arg-type]
        batch_size=64,
        shuffle=True,
        collate_fn=_collate,
    )
    model = PlainClassifier(config, words)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    criterion, started = nn.BCEWithLogitsLoss(), time.perf_counter()
    for padded, lengths, labels in loader:
        optimizer.zero_grad()
        criterion(model(padded, lengths), labels).backward()
        optimizer.step()
    return time.perf_counter() - started
