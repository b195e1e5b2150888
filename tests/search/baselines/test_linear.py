from __future__ import annotations

import numpy as np
import pytest

from celltune.search.baselines.linear import (
    BASELINES,
    LabelledTexts,
    score_baseline,
)

WORDS = (("dull", "poor"), ("fine", "great"), ("green", "blue"))


def make_texts(count: int, num_classes: int, seed: int) -> LabelledTexts:
    """Return texts of words that all classes share, with one word of the class among them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    texts = []
    for label in labels:
        words = [f"w{n}" for n in rng.integers(8, size=6)]
        words[int(rng.integers(6))] = str(rng.choice(WORDS[label]))
        texts.append(" ".join(words))
    return LabelledTexts(texts, labels)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_baseline_learns_the_words_of_a_class(name: str, num_classes: int) -> None:
    scores = score_baseline(
        name, make_texts(120, num_classes, 1), make_texts(60, num_classes, 2), num_classes
    )
    assert scores.metrics["test_accuracy"] > 0.9
    assert scores.metrics["train_accuracy"] > 0.95
    assert np.array(scores.test_confusion).sum(1).tolist() == [60 // num_classes] * num_classes
    assert ("test_loss" in scores.metrics) == (name != "nb_svm")
    assert scores.metrics.get("test_auroc", 1.0) > 0.95
    assert ("test_auroc" in scores.metrics) == (num_classes == 2)
    assert scores.metrics["parameters"] % (1 if num_classes == 2 else num_classes) == 0
    again = score_baseline(
        name, make_texts(120, num_classes, 1), make_texts(60, num_classes, 2), num_classes
    )
    assert again.test_outcomes == scores.test_outcomes


def test_baselines_use_pairs_of_words() -> None:
    texts = ["not good", "good not"] * 20
    documents = LabelledTexts(texts, np.array([0, 1] * 20))
    for name in BASELINES:
        scores = score_baseline(name, documents, documents, 2)
        assert scores.metrics["test_accuracy"] == 1


def test_loss_is_that_of_probabilities() -> None:
    scores = score_baseline("tfidf_logistic", make_texts(120, 3, 1), make_texts(60, 3, 2), 3)
    assert 0 < scores.metrics["test_loss"] < np.log(3)


def test_only_character_ngrams_recognize_misspelled_words() -> None:
    """Every document spells its word in its own way, so that no word occurs twice."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    texts = [f"{WORDS[label][1]}{''.join(rng.choice(list('xyz'), 12))}" for label in labels]
    train = LabelledTexts(texts[:150], labels[:150])
    test = LabelledTexts(texts[150:], labels[150:])
    accuracies = {
        name: score_baseline(name, train, test, 2).metrics["test_accuracy"] for name in BASELINES
    }
    assert accuracies["tfidf_char_logistic"] > 0.9
    assert accuracies["tfidf_logistic"] < 0.6
