from __future__ import annotations

import numpy as np
import pytest

from celltune.search.errors import OptionError
from celltune.search.evaluation import baselines
from celltune.search.evaluation.baselines import BASELINES, Labelled, check_installed, plain, run

WORDS = (("dull", "poor"), ("fine", "great"), ("green", "blue"))


def reviews(count: int, classes: int, seed: int) -> Labelled:
    """Reviews of words that any class has and, at places of their own, two of the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    texts = []
    for label in labels:
        words = [f"w{n}" for n in rng.integers(8, size=6)]
        words[int(rng.integers(6))] = str(rng.choice(WORDS[label]))
        texts.append(" ".join(words))
    return Labelled(texts, labels)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_baseline_learns_which_words_make_a_class(name: str, classes: int) -> None:
    found = run(name, reviews(120, classes, 1), reviews(60, classes, 2), classes)
    assert found.metrics["test_accuracy"] > 0.9
    assert found.metrics["train_accuracy"] > 0.95
    assert np.array(found.test_confusion).sum(1).tolist() == [60 // classes] * classes
    assert ("test_loss" in found.metrics) == (name == "tfidf_logistic")
    assert found.metrics["parameters"] % (1 if classes == 2 else classes) == 0
    again = run(name, reviews(120, classes, 1), reviews(60, classes, 2), classes)
    assert again.test_outcomes == found.test_outcomes


def test_pairs_of_words_are_seen() -> None:
    texts = ["not good", "good not"] * 20
    labels = np.array([0, 1] * 20)
    for name in BASELINES:
        found = run(name, Labelled(texts, labels), Labelled(texts, labels), 2)
        assert found.metrics["test_accuracy"] == 1


def test_the_loss_is_that_of_probabilities() -> None:
    found = run("tfidf_logistic", reviews(120, 3, 1), reviews(60, 3, 2), 3)
    assert 0 < found.metrics["test_loss"] < np.log(3)


def test_line_breaks_of_html_are_no_words() -> None:
    assert plain("A<br />B") == "a b"


def test_without_scikit_learn_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(baselines.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'celltune\[baselines\]'.*--no-baselines"):
        check_installed()
