"""The wide part on IMDB: cost, memory and accuracy, compared with scikit-learn's n-grams.

Usage: python benchmarks/wide.py [--quick] [--reviews FILE] [--test FILE]

The files are CSV files with the columns text and label (neg and pos, or 0 and 1). A fifth of the
shuffled reviews is the validation split. The competitor counts the same n-grams with scikit-learn's
CountVectorizer. Every side runs in a process of its own with one thread. Figures:
  features_cpu_s, sklearn_features_cpu_s    CPU time to choose and extract the n-grams of the
                                            training split
  features_cost_ratio                       the first as a share of the second
  fit_cpu_s                                 CPU time for everything: features, penalties, five folds
  memory_gb                                 memory of that process
  predict_reviews_per_cpu_s                 test reviews per CPU-second
  numpy_reviews_per_cpu_s                   the same with the numpy look-up, for comparison
  both_parts_reviews_per_cpu_s, ensemble_reviews_per_cpu_s
                                            the same for a bidirectional GRU of size 64 with this
                                            wide part, and for an ensemble of 8 of them
  valid_accuracy, cross_fitted_accuracy, test_accuracy    in percent; the second one is that of the
                                            outputs that training documents get
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from _measure import REVIEWS, finish

from celltune.data_prep.text.encoder import TextEncoder
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide.model import WideModel
from celltune.data_prep.wide.regression import log_probabilities
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig

TEST_REVIEWS = REVIEWS.with_name("test.csv.gz")


def load(path: Path, count: int | None) -> LabelledTexts:
    """Return shuffled reviews."""
    table = pd.read_csv(path).sample(frac=1.0, random_state=1)[:count]
    labels = pd.factorize(table["label"], sort=True)[0].astype(np.int64)
    return LabelledTexts(table["text"].tolist(), labels, [None] * len(table))


def part(documents: LabelledTexts, begin: int, end: int | None) -> LabelledTexts:
    """Return some of the documents."""
    return LabelledTexts(*(values[begin:end] for values in vars(documents).values()))


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy in percent."""
    return 100 * float((log_probabilities(outputs).argmax(axis=1) == labels).mean())


def features(documents: LabelledTexts) -> dict[str, float]:
    """Choose and extract the n-grams."""
    cpu = time.process_time()
    NgramFeatures.fit([normalize(text) for text in documents.texts], WideConfig())
    return {"features_cpu_s": time.process_time() - cpu}


def sklearn_features(documents: LabelledTexts) -> dict[str, float]:
    """Choose and extract the n-grams with scikit-learn."""
    from sklearn.feature_extraction.text import CountVectorizer

    shared: dict[str, Any] = {"preprocessor": normalize, "binary": True, "min_df": 2}
    pattern = r"\w+|[^\w\s]"
    cpu = time.process_time()
    CountVectorizer(token_pattern=pattern, ngram_range=(1, 3), **shared).fit_transform(
        documents.texts
    )
    CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared).fit_transform(documents.texts)
    return {"sklearn_features_cpu_s": time.process_time() - cpu}


def whole(train: LabelledTexts, valid: LabelledTexts, test: LabelledTexts) -> dict[str, float]:
    """Fit the wide part as data preparation does, and predict."""
    cpu = time.process_time()
    fitted = WideFitter(WideConfig(), 2, 1).fit(train, valid)
    fit_seconds, cpu = time.process_time() - cpu, time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    outputs = fitted.model.logits(test.texts)
    predict_seconds = time.process_time() - cpu
    return {
        "fit_cpu_s": fit_seconds,
        "memory_gb": memory,
        "predict_reviews_per_cpu_s": len(test.texts) / predict_seconds,
        **prediction_speeds(fitted.model, test.texts[:5_000]),
        "valid_accuracy": accuracy(fitted.valid, valid.labels),
        "cross_fitted_accuracy": accuracy(fitted.train, train.labels),
        "test_accuracy": accuracy(outputs, test.labels),
    }


def prediction_speeds(wide: WideModel, texts: list[str]) -> dict[str, float]:
    """Return the speed of the numpy look-up, and of models with two parts and random weights."""
    import torch
    from predict import CLASSES, MEMBERS, RULES, make_model

    from celltune.models.network.averaged import averaged
    from celltune.models.network.classifier import TextClassifier
    from celltune.models.network.trained import network_of
    from celltune.search.bundles.predictor import TrainedModel

    torch.set_num_threads(1)
    first, words = make_model(texts, 64)
    config = first.config.model_copy(update={"wide": "add"})
    networks = [network_of(TextClassifier(config, len(words), 2)) for _ in range(MEMBERS)]
    reader = TextEncoder(RULES, words)
    model = TrainedModel(networks[0], reader, CLASSES, wide)
    ensemble = TrainedModel(
        averaged([(1 / MEMBERS, each) for each in networks]), reader, CLASSES, wide
    )

    def by_numpy(texts: list[str]) -> None:
        for start in range(0, len(texts), 1_000):
            prepared = [normalize(text) for text in texts[start : start + 1_000]]
            wide.logits_of(wide.features.presence(prepared))

    return {
        "numpy_reviews_per_cpu_s": speed(by_numpy, texts),
        "both_parts_reviews_per_cpu_s": speed(model.predict, texts),
        "ensemble_reviews_per_cpu_s": speed(ensemble.predict, texts),
    }


def speed(predict: Callable[[list[str]], object], texts: list[str]) -> float:
    """Return the number of texts per CPU-second, the median of three runs."""
    predict(texts[:64])  # compiles the native code on first use
    seconds = []
    for _ in range(3):
        cpu = time.process_time()
        predict(texts)
        seconds.append(time.process_time() - cpu)
    return len(texts) / median(seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 reviews; keep no result")
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    parser.add_argument("--test", type=Path, default=TEST_REVIEWS)
    options = parser.parse_args(arguments)
    count = 2_000 if options.quick else None
    reviews, test = load(options.reviews, count), load(options.test, count)
    end = len(reviews.texts) * 4 // 5
    train, valid = part(reviews, 0, end), part(reviews, end, None)
    figures: dict[str, float] = {}
    os.environ["OMP_NUM_THREADS"] = "1"
    for function, inputs in (
        (features, (train,)),
        (sklearn_features, (train,)),
        (whole, (train, valid, test)),
    ):
        # A process of its own, because the largest memory of a process never shrinks.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures |= pool.apply(function, inputs)
        print(figures, flush=True)
    figures["features_cost_ratio"] = figures["features_cpu_s"] / figures["sklearn_features_cpu_s"]
    finish("wide", figures, {"reviews": len(reviews.texts)}, keep=not options.quick)


if __name__ == "__main__":
    main()
