from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_expit, logsumexp

from celltune.data_prep.errors import DataError
from celltune.data_prep.wide import fit as fit_module
from celltune.data_prep.wide import regression
from celltune.data_prep.wide.fit import FittedWide, LabelledTexts, WideFitter
from celltune.data_prep.wide.folds import assign_folds
from celltune.data_prep.wide.regression import log_probabilities
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig
from tests.data_prep.wide.reference import corpus, log_odds

SEED = 3


def documents(size: int, classes: int, seed: int) -> LabelledTexts:
    texts, labels = corpus(size, classes, seed)
    return LabelledTexts(texts, labels, [None] * size)


def fit(
    train: LabelledTexts, valid: LabelledTexts, classes: int = 2, **fields: object
) -> FittedWide:
    return WideFitter(WideConfig(**fields), classes, SEED).fit(train, valid)


def outputs_of(log_odds: np.ndarray) -> np.ndarray:
    if log_odds.shape[1] == 1:
        return log_odds
    shares = log_expit(log_odds)
    return shares - logsumexp(shares, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _converged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both solutions converge; else, they differ by the order of the features."""
    monkeypatch.setattr(regression, "MAX_ITERATIONS", 2_000)
    monkeypatch.setattr(regression, "TOLERANCE", 1e-8)


@pytest.mark.parametrize("classes", [2, 3])
def test_outputs_equal_those_of_scikit_learn(classes: int) -> None:
    train, valid = documents(60, classes, 1), documents(20, classes, 2)
    fitted = fit(train, valid, classes, penalties=[10])
    expected = outputs_of(log_odds(train.texts, train.labels, valid.texts))
    assert fitted.valid == pytest.approx(expected, abs=1e-4)
    assert fitted.model.logits(valid.texts).tolist() == fitted.valid.tolist()
    assert fitted.valid.dtype == fitted.train.dtype == np.float32


@pytest.mark.parametrize("classes", [2, 3])
def test_training_documents_are_held_out(classes: int) -> None:
    train = documents(60, classes, 1)
    fitted = fit(train, documents(20, classes, 2), classes, penalties=[10], folds=4)
    texts = [normalize(text) for text in train.texts]
    folds = assign_folds(texts, train.labels, train.groups, folds=4, seed=SEED)
    for fold in range(4):
        inside = folds == fold
        expected = log_odds(
            [text for text, held_out in zip(train.texts, inside, strict=True) if not held_out],
            train.labels[~inside],
            [text for text, held_out in zip(train.texts, inside, strict=True) if held_out],
        )
        assert fitted.train[inside] == pytest.approx(outputs_of(expected), abs=1e-4)


def test_penalty_with_the_lowest_validation_loss_is_chosen() -> None:
    train, valid = documents(60, 2, 1), documents(40, 2, 2)
    losses = {}
    for penalty in (0.001, 1, 1000):
        fitted = fit(train, valid, penalties=[penalty])
        losses[penalty] = fitted.info["valid_loss"]
        probabilities = log_probabilities(fitted.valid)
        assert losses[penalty] == pytest.approx(-probabilities[range(40), valid.labels].mean())
    fitted = fit(train, valid, penalties=list(losses))
    assert fitted.info["penalty"] == min(losses, key=losses.__getitem__)
    assert fitted.info["valid_loss"] == min(losses.values())
    accuracy = np.mean((fitted.valid[:, 0] > 0) == valid.labels)
    assert fitted.info["valid_accuracy"] == pytest.approx(accuracy)


def test_log_probabilities_of_classes_sum_to_one() -> None:
    for outputs in (np.array([[-30.0], [0], [2]], np.float32), outputs_of(np.eye(3))):
        assert np.exp(log_probabilities(outputs)).sum(axis=1) == pytest.approx(np.ones(3))
    assert log_probabilities(np.array([[2.0]]))[0, 1] == pytest.approx(log_expit(2))


def test_refit_uses_all_documents_and_the_given_penalty() -> None:
    train, new = documents(60, 2, 1), documents(10, 2, 4)
    model = WideFitter(WideConfig(), 2, SEED).refit(train, 10)
    expected = log_odds(train.texts, train.labels, new.texts)
    assert model.logits(new.texts) == pytest.approx(expected, abs=1e-4)


def test_a_class_that_the_other_folds_lack_gets_its_odds() -> None:
    texts = [f"text number {index}" for index in range(9)]
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    train = LabelledTexts(texts, labels, [None] * 9)
    fitted = fit(train, train, 3, folds=3)
    assert np.isfinite(fitted.train).all()
    assert np.exp(fitted.train).sum(axis=1) == pytest.approx(np.ones(9))
    assert fitted.train[8].argmax() != 2


def test_folds_without_common_ngrams_get_the_odds_of_the_class() -> None:
    texts = ["ab", "ab", "cd", "ef"]
    train = LabelledTexts(texts, np.array([1, 1, 0, 1]), [None] * 4)
    fitted = fit(train, train, folds=2)
    folds = assign_folds(texts, train.labels, train.groups, folds=2, seed=SEED)
    others = train.labels[folds != folds[0]]
    odds = (others.sum() + 1) / (len(others) - others.sum() + 1)
    assert fitted.train[0, 0] == pytest.approx(np.log(odds))


def test_texts_without_common_ngrams_use_all_ngrams() -> None:
    train = LabelledTexts(["ab", "cd"], np.array([0, 1]), [None, None])
    fitted = fit(train, train, folds=2)
    assert fitted.info["words"] == 2
    first, second = fitted.model.logits(["ab", "cd"])[:, 0]
    assert first < 0 < second


def test_progress_counts_lengths_and_fits() -> None:
    reports: list[tuple[int, int]] = []
    train = documents(30, 3, 1)
    WideFitter(WideConfig(penalties=(1, 3), folds=4), 3, SEED).fit(
        train, train, lambda done, total: reports.append((done, total))
    )
    # Words up to 3, characters up to 5, two penalties and four folds for each of three classes.
    assert reports == [(done, 26) for done in range(27)]
    few, reports = LabelledTexts(["a b", "b a", "a"], np.array([0, 1, 1]), [None] * 3), []
    WideFitter(WideConfig(), 2, SEED).fit(few, few, lambda *report: reports.append(report))
    total = 8 + len(WideConfig().penalties) + 3
    assert reports[-1] == (total, total)
    assert reports == sorted(set(reports))


@pytest.mark.parametrize(
    ("losses", "tried", "chosen"),
    [
        ({1: 5, 2: 4, 3: 3, 4: 2, 5: 1}, [3, 4, 5], 5),
        ({1: 5, 2: 4, 3: 2, 4: 1, 5: 3}, [3, 4, 5], 4),
        ({1: 2, 2: 1, 3: 3, 4: 4, 5: 5}, [3, 4, 2, 1], 2),
        ({1: 5, 2: 4, 3: 1, 4: 1, 5: 0}, [3, 4, 2], 3),
        ({7: 1}, [7], 7),
        ({1: 0, 9: 1}, [9, 1], 1),
    ],
)
def test_penalties_are_searched_downhill(
    monkeypatch: pytest.MonkeyPatch, losses: dict[int, float], tried: list[int], chosen: int
) -> None:
    given: list[float] = []

    class Recorder(regression.Regression):
        def fit(self, penalty: float, on_fit: Callable[[], None]) -> regression.Weights:
            given.append(penalty)
            return super().fit(penalty, on_fit)

    monkeypatch.setattr(fit_module, "Regression", Recorder)
    monkeypatch.setattr(fit_module, "_loss", lambda *_: float(losses[int(given[-1])]))
    train = documents(30, 2, 1)
    # The order in which a config lists them does not matter.
    fitted = fit(train, train, penalties=list(losses)[::-1], folds=2)
    assert given == [*tried, chosen, chosen]
    assert fitted.info["penalty"] == chosen
    assert fitted.info["valid_loss"] == losses[chosen]


def test_too_many_ngrams_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "MAX_PAIRS", 100)
    train = documents(30, 2, 1)
    with pytest.raises(DataError, match=r"fitted to at most 100\. Reduce data\.train_size, data"):
        fit(train, train)
