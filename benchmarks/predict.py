"""From raw text to label and probability: a `TrainedModel` beside plain PyTorch.

Usage: python benchmarks/predict.py [--quick] [--reviews FILE] [--hidden 64] [--threads N]

FILE is a csv with the column text. The model is bidirectional, reads up to 256 words (half of each
end) and takes the maximum over them; its weights are drawn, which makes no difference to the speed.
The peer is written as one writes it first: torchtext's basic_english, a dict, nn.GRU of the same
weights over a PackedSequence; once in batches of 64 as they come, once a review at a time. All
sides begin with the text, and agree on every probability.
Figures:
  reviews_per_s              ours
  batched_reviews_per_s      the peer in batches
  single_reviews_per_s       the peer a review at a time
  reviews_per_cpu_s, batched_reviews_per_cpu_s, single_reviews_per_cpu_s
                             the same by seconds of CPU, for machines that others use as well; with
                             --threads 1 no thread waits for another
  batched_ratio              ours to the peer in batches, by seconds of CPU
  single_ratio               ours to the peer a review at a time, by seconds of CPU
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from _measure import REVIEWS, finish
from _plain_epoch import PlainClassifier
from torch.nn.utils.rnn import pad_sequence
from torchtext.data.utils import get_tokenizer

from celltune.data_prep.dataset.vocabulary import Vocabulary
from celltune.data_prep.text.encoder import TextEncoder, TextRules
from celltune.data_prep.text.indexing import index_texts
from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.search.bundles.predictor import TrainedModel
from celltune.search.cli.prediction_input import texts_of

RULES = TextRules(tokenizer="basic_english", lowercase=False, max_tokens=256, keep="both")
WORDS, BATCH = 25_000, 64


def make_model(texts: list[str], hidden: int) -> TrainedModel:
    found = index_texts(texts, RULES.tokenizer)
    counts = np.bincount(found.ids, minlength=len(found.tokens))
    words = Vocabulary.of_counts(found.tokens, counts, size=WORDS).words
    config = ModelConfig(
        cell="gru", hidden_size=hidden, bidirectional=True, readout="max", embedding_std=1.0
    )
    classifier = TextClassifier(config, len(words), 2)
    return TrainedModel(classifier, TextEncoder(RULES, words), ("neg", "pos"))


class Plain:
    """The peer, with the weights of a model of ours."""

    def __init__(self, model: TrainedModel) -> None:
        ours = model.classifier
        self.tokenize = get_tokenizer("basic_english")
        self.ids = {word: number for number, word in enumerate(model.reader.words)}
        self.net = PlainClassifier(ours.config, len(ours.embedding)).eval()
        with torch.no_grad():
            self.net.embedding.weight.copy_(ours.embedding)
            self.net.output.weight.copy_(ours.output_weight)
            self.net.output.bias.copy_(ours.output_bias)
        self.net.gru.load_state_dict(ours.recurrent.state_dict())

    def answers(self, texts: list[str], batch: int) -> Iterator[float]:
        """The probability of the second class for each text."""
        for start in range(0, len(texts), batch):
            rows = [self._row(text) for text in texts[start : start + batch]]
            lengths = torch.tensor([len(row) for row in rows])
            padded = pad_sequence(rows, batch_first=True, padding_value=1)
            with torch.inference_mode():
                yield from self.net(padded, lengths).sigmoid().tolist()

    def _row(self, text: str) -> torch.Tensor:
        ids = [self.ids.get(token, 0) for token in self.tokenize(text)]
        return torch.tensor(ids if len(ids) <= 256 else ids[:128] + ids[-128:])


def timed(work: Callable[[], list[float]]) -> tuple[list[float], float, float]:
    """The answers, the seconds on the clock and those of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    answers = work()
    return answers, time.perf_counter() - clock, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few reviews, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if not options.reviews.is_file():
        sys.exit(f"{options.reviews} is missing; give a csv with the column text: --reviews")
    torch.set_num_threads(options.threads)
    count = 500 if options.quick else 5_000
    texts = list(islice(texts_of(options.reviews, "text"), count))
    batched, single = texts[: count // 10], texts[: count // 100]
    model = make_model(texts, options.hidden)
    plain = Plain(model)
    model.predict(texts[:64])  # the native loops are compiled at their first use
    # Each side runs one after the other on the same machine.
    ours, seconds, cpu = timed(lambda: [a.probabilities["pos"] for a in model.predict(texts)])
    theirs, batched_seconds, batched_cpu = timed(lambda: list(plain.answers(batched, BATCH)))
    alone, single_seconds, single_cpu = timed(lambda: list(plain.answers(single, 1)))
    differences = [
        max(abs(a - b) for a, b in zip(ours, peer, strict=False)) for peer in (theirs, alone)
    ]
    if max(differences) > 1e-4:
        sys.exit(f"the sides' probabilities differ by {max(differences):.2g}: not the same work")
    speed = len(texts) / cpu
    by_batch, one_by_one = len(batched) / batched_cpu, len(single) / single_cpu
    figures = {
        "reviews_per_s": len(texts) / seconds,
        "batched_reviews_per_s": len(batched) / batched_seconds,
        "single_reviews_per_s": len(single) / single_seconds,
        "reviews_per_cpu_s": speed,
        "batched_reviews_per_cpu_s": by_batch,
        "single_reviews_per_cpu_s": one_by_one,
        "batched_ratio": speed / by_batch,
        "single_ratio": speed / one_by_one,
    }
    details = {
        "reviews": {"ours": len(texts), "batched": len(batched), "single": len(single)},
        "model": model.classifier.config.model_dump(),
        "threads": torch.get_num_threads(),
        "largest_difference": max(differences),
    }
    finish("predict", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
