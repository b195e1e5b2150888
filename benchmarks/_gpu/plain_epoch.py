"""The straightforward script of section 3: DataLoader, PackedSequence, nn.GRU and Adam."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.models.config import ModelConfig, TrainingConfig

from .common import synchronize

Example = tuple[Tensor, int]


class PlainClassifier(nn.Module):
    """Embedding, `nn.GRU` over a PackedSequence, maximum over time, output layer."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        size, hidden = config.embedding_size, config.hidden_size
        self.embedding = nn.Embedding(words, size, padding_idx=1)
        self.gru = nn.GRU(size, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * hidden, 1)

    def forward(self, texts: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(texts))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, padding_value=-torch.inf
        )
        logits: Tensor = self.output(self.dropout(states.max(dim=1).values)).squeeze(1)
        return logits


def _collate(batch: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    texts, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(text) for text in texts])
    padded = pad_sequence(list(texts), batch_first=True, padding_value=1)
    return padded, lengths, torch.tensor(labels, dtype=torch.float)


def plain_epoch(
    config: ModelConfig,
    training: TrainingConfig,
    split: TensorizedSplit,
    words: int,
    device: torch.device,
    batches: int,
) -> dict[str, float]:
    """Train on shuffled batches after a warm-up.

    Returns:
        `seconds` of `batches` batches and `epoch_seconds`, extrapolated by the number of tokens.
    """
    torch.manual_seed(1)
    texts = np.split(split.ids.astype(np.int64), split.offsets[1:-1])
    pairs = list(zip(map(torch.from_numpy, texts), split.labels.tolist(), strict=True))
    loader: DataLoader[Example] = DataLoader(
        pairs,  # type: ignore[arg-type]
        batch_size=training.batch_size,
        shuffle=True,
        collate_fn=_collate,
    )
    model = PlainClassifier(config, words).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    criterion = nn.BCEWithLogitsLoss()
    warm_up = min(10, len(loader) // 4)
    started, tokens, documents = time.perf_counter(), 0, 0
    for number, (padded, lengths, labels) in enumerate(loader):
        if number == warm_up + batches:
            break
        if number == warm_up:
            synchronize(device)
            started, tokens, documents = time.perf_counter(), 0, 0
        optimizer.zero_grad()
        criterion(model(padded.to(device), lengths), labels.to(device)).backward()
        optimizer.step()
        tokens += int(lengths.sum())
        documents += len(labels)
    synchronize(device)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "documents": documents,
        "epoch_seconds": seconds * split.tokens / tokens,
    }
