"""The linear baselines on IMDB: cost, memory and validation accuracy, compared with scikit-learn.

Usage: python benchmarks/baselines.py [--quick] [--reviews FILE]

FILE is a CSV file with the columns text and label (neg and pos, or 0 and 1). A fifth of the reviews
is the validation split. The competitor fits the model of tfidf_char_logistic to the features of
scikit-learn's own TfidfVectorizer with the analyzer char_wb, which reads every n-gram of every
document. Every side runs in a process of its own with one thread; the memory is the largest that
the process used. Figures, for each baseline and for the competitor, sklearn_char_logistic:
  NAME_cpu_s         CPU time for features, fitting and scoring
  NAME_memory_gb     memory of the process
  NAME_accuracy      validation accuracy in percent
  char_cost_ratio    CPU time of tfidf_char_logistic to that of the competitor
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

from celltune.search.baselines.linear import BASELINES, LabelledTexts, score_baseline
from celltune.search.baselines.ngrams import MAX_SHARE, MIN_DOCUMENTS, SIZES, normalize

COMPETITOR = "sklearn_char_logistic"


def load(path: Path, count: int | None) -> tuple[LabelledTexts, LabelledTexts]:
    """Return the training and the validation split of shuffled reviews."""
    table = pd.read_csv(path).sample(frac=1.0, random_state=1)[:count]
    labels = pd.factorize(table["label"], sort=True)[0]
    end = len(table) * 4 // 5
    texts = table["text"].tolist()
    return LabelledTexts(texts[:end], labels[:end]), LabelledTexts(texts[end:], labels[end:])


def score_competitor(train: LabelledTexts, valid: LabelledTexts) -> float:
    """Return the accuracy of a scikit-learn pipeline with the features of the third baseline."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    shared: dict[str, Any] = {
        "preprocessor": normalize,
        "sublinear_tf": True,
        "min_df": MIN_DOCUMENTS,
        "dtype": np.float32,
    }
    words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), **shared)  # noqa: S106
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(SIZES[0], SIZES[-1]), max_df=MAX_SHARE, **shared
    )
    model = make_pipeline(
        make_union(words, characters),
        LogisticRegression(C=5.0, solver="liblinear", dual=True, random_state=0, max_iter=1_000),
    )
    model.fit(train.texts, train.labels)
    return float(model.score(valid.texts, valid.labels))


def run(name: str, path: Path, count: int | None) -> dict[str, float]:
    """Fit and score one model in this process."""
    train, valid = load(path, count)
    cpu = time.process_time()
    if name == COMPETITOR:
        accuracy = score_competitor(train, valid)
    else:
        accuracy = score_baseline(name, train, valid, 2).metrics["test_accuracy"]
    return {
        f"{name}_cpu_s": time.process_time() - cpu,
        f"{name}_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        f"{name}_accuracy": 100 * accuracy,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 reviews; keep no result")
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    options = parser.parse_args(arguments)
    count = 2_000 if options.quick else None
    figures: dict[str, float] = {}
    for name in (*BASELINES, COMPETITOR):
        # A process of its own, because the largest memory of a process never shrinks.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures |= pool.apply(run, (name, options.reviews, count))
        print(f"{name}: {figures[f'{name}_cpu_s']:.1f} CPU-s", flush=True)
    figures["char_cost_ratio"] = (
        figures["tfidf_char_logistic_cpu_s"] / figures[f"{COMPETITOR}_cpu_s"]
    )
    finish("baselines", figures, {"reviews": options.reviews.name}, keep=not options.quick)


if __name__ == "__main__":
    main()
