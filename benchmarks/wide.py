"""The wide part on IMDB: cost, memory and accuracy, compared with scikit-learn's n-grams.

Usage: python benchmarks/wide.py [--quick] [--reviews FILE] [--test FILE]

The files are CSV files with the columns text and label (neg and pos, or 0 and 1). A fifth of the
shuffled reviews is the validation split. The competitor counts the same n-grams with scikit-learn's
CountVectorizer. Every side runs in a process of its own with one thread. Figures:
  features_cpu_s, sklearn_features_cpu_s    CPU time to choose and extract the n-grams of the
                                            training split
  features_cost_ratio                       the first as a share of the second
  fit_cpu_s                                 CPU time for everything: features, four penalties,
                                            five folds
  memory_gb                                 memory of that process
  predict_reviews_per_cpu_s                 test reviews per CPU-second
  valid_accuracy, cross_fitted_accuracy, test_accuracy    in percent; the second one is that of the
                                            outputs that training documents get
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _measure import REVIEWS, finish

from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
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
    outputs = fitted.model.logits(test.texts)
    return {
        "fit_cpu_s": fit_seconds,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "predict_reviews_per_cpu_s": len(test.texts) / (time.process_time() - cpu),
        "valid_accuracy": accuracy(fitted.valid, valid.labels),
        "cross_fitted_accuracy": accuracy(fitted.train, train.labels),
        "test_accuracy": accuracy(outputs, test.labels),
    }


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
