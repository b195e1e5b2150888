"""Inference from text to label and probability: `TrainedModel` compared with plain PyTorch.

Usage: python benchmarks/predict.py [--quick] [--reviews FILE] [--hidden 64] [--threads N]

FILE is a CSV file with the column text. The model is bidirectional, reads at most 256 words (half
from each end) and takes the maximum over time; its weights are random, which does not affect the
speed. The plain implementation uses torchtext's basic_english, a dict, and nn.GRU with the same
weights on a PackedSequence; once in batches of 64 in the given order, once with single reviews. All
sides start with the text, and their probabilities are compared.
Figures:
  reviews_per_second         celltune (median of 3 runs)
  batched_reviews_per_s      plain implementation in batches
  single_reviews_per_s       plain implementation with single reviews
  reviews_per_cpu_s, batched_reviews_per_cpu_s, single_reviews_per_cpu_s
                             the same by CPU time, for machines with other load; with --threads 1 no
                             CPU time is lost on waiting threads
  ensemble_reviews_per_second, ensemble_reviews_per_cpu_s
                             celltune, for an ensemble of 8 such models (median of 3 runs)
  batched_ratio              celltune to the plain implementation in batches, by CPU time
  single_ratio               celltune to the plain implementation with single reviews, by CPU time
  cold_start_s, cold_start_cpu_s
                             `celltune predict DIR TEXT` in a new process (median of 5 runs)
  import_torch_cpu_s         `import torch` in a new process (median of 5 runs), for comparison
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

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
from celltune.models.network.averaged import averaged
from celltune.models.network.classifier import TextClassifier
from celltune.models.network.trained import network_of
from celltune.search.bundles.bundle import write_bundle
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.bundles.predictor import TrainedModel
from celltune.search.cli.prediction.input import Columns, read_texts

RULES = TextRules(tokenizer="basic_english", lowercase=False, max_tokens=256, keep="both")
WORDS, BATCH = 25_000, 64
CLASSES = ("neg", "pos")
RUNS, COLD_RUNS = 3, 5
MEMBERS = 8


def make_model(texts: list[str], hidden: int) -> tuple[TextClassifier, tuple[str, ...]]:
    """Return a classifier with random weights, and its vocabulary."""
    indexed = index_texts(texts, RULES.tokenizer)
    counts = np.bincount(indexed.ids, minlength=len(indexed.tokens))
    words = Vocabulary.of_counts(indexed.tokens, counts, size=WORDS).words
    config = ModelConfig(
        cell="gru", hidden_size=hidden, bidirectional=True, readout="max", embedding_std=1.0
    )
    return TextClassifier(config, len(words), 2), words


class Plain:
    """Plain PyTorch implementation with the weights of a celltune model."""

    def __init__(self, ours: TextClassifier, words: tuple[str, ...]) -> None:
        self.tokenize = get_tokenizer("basic_english")
        self.ids = {word: number for number, word in enumerate(words)}
        self.net = PlainClassifier(ours.config, len(ours.embedding)).eval()
        with torch.no_grad():
            self.net.embedding.weight.copy_(ours.embedding)
            self.net.output.weight.copy_(ours.output_weight)
            self.net.output.bias.copy_(ours.output_bias)
        self.net.gru.load_state_dict(ours.recurrent.state_dict())

    def predict(self, texts: list[str], batch: int) -> Iterator[float]:
        """Yield the probability of the second class for each text."""
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
    """Return the probabilities, the wall-clock seconds and the CPU seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    probabilities = work()
    return probabilities, time.perf_counter() - clock, time.process_time() - cpu


def ensemble_speed(
    first: TextClassifier, words: tuple[str, ...], texts: list[str]
) -> dict[str, float]:
    """Return the speed of an ensemble of models with the architecture of the first."""
    sizes = len(words), len(CLASSES)
    classifiers = [first, *(TextClassifier(first.config, *sizes) for _ in range(MEMBERS - 1))]
    network = averaged([(1 / MEMBERS, network_of(classifier)) for classifier in classifiers])
    model = TrainedModel(network, TextEncoder(RULES, words), CLASSES)
    runs = [
        timed(lambda: [p.probabilities["pos"] for p in model.predict(texts)]) for _ in range(RUNS)
    ]
    _, seconds, cpu = sorted(runs, key=lambda run: run[1])[RUNS // 2]
    return {
        "ensemble_reviews_per_second": len(texts) / seconds,
        "ensemble_reviews_per_cpu_s": len(texts) / cpu,
    }


def cold_start(classifier: TextClassifier, words: tuple[str, ...]) -> dict[str, float]:
    """Return the cost of one prediction in a new process, and of importing torch."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        config = BundleConfig(model=classifier.config, text=RULES, classes=CLASSES)
        write_bundle(bundle, config, words, classifier.state_dict(), {})
        command = [sys.executable, "-m", "celltune", "predict", str(bundle), "the plot was great ."]
        seconds, cpu = in_new_processes(command)
    _, torch_cpu = in_new_processes([sys.executable, "-c", "import torch"])
    return {"cold_start_s": seconds, "cold_start_cpu_s": cpu, "import_torch_cpu_s": torch_cpu}


def in_new_processes(command: list[str]) -> tuple[float, float]:
    """Return the median wall-clock seconds and CPU seconds of a command."""
    walls, cpus = [], []
    for _ in range(COLD_RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(walls), median(cpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few reviews, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if not options.reviews.is_file():
        sys.exit(f"{options.reviews} is missing; set --reviews to a CSV file with the column text.")
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    count = 500 if options.quick else 5_000
    rows = read_texts(options.reviews, Columns(text="text")).rows
    texts = [row.text for row in islice(rows, count)]
    batched, single = texts[: count // 10], texts[: count // 100]
    classifier, words = make_model(texts, options.hidden)
    model = TrainedModel(network_of(classifier), TextEncoder(RULES, words), CLASSES)
    plain = Plain(classifier, words)
    model.predict(texts[:64])  # compiles the native code on first use
    runs = [
        timed(lambda: [p.probabilities["pos"] for p in model.predict(texts)]) for _ in range(RUNS)
    ]
    ours, seconds, cpu = runs[0][0], median(run[1] for run in runs), median(run[2] for run in runs)
    in_batches, batched_seconds, batched_cpu = timed(lambda: list(plain.predict(batched, BATCH)))
    one_by_one, single_seconds, single_cpu = timed(lambda: list(plain.predict(single, 1)))
    differences = [
        max(abs(a - b) for a, b in zip(ours, plain, strict=False))
        for plain in (in_batches, one_by_one)
    ]
    if max(differences) > 1e-4:
        sys.exit(f"The probabilities of the sides differ by {max(differences):.2g}.")
    speed = len(texts) / cpu
    batched_speed, single_speed = len(batched) / batched_cpu, len(single) / single_cpu
    figures = {
        "reviews_per_second": len(texts) / seconds,
        "batched_reviews_per_s": len(batched) / batched_seconds,
        "single_reviews_per_s": len(single) / single_seconds,
        "reviews_per_cpu_s": speed,
        "batched_reviews_per_cpu_s": batched_speed,
        "single_reviews_per_cpu_s": single_speed,
        **ensemble_speed(classifier, words, texts[: count // 2]),
        "batched_ratio": speed / batched_speed,
        "single_ratio": speed / single_speed,
        **cold_start(classifier, words),
    }
    details = {
        "reviews": {"ours": len(texts), "batched": len(batched), "single": len(single)},
        "model": classifier.config.model_dump(),
        "threads": torch.get_num_threads(),
        "largest_difference": max(differences),
    }
    finish("predict", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
