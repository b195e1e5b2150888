"""The data sets and the figures of benchmarks/quality.py."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BASELINES = ("tfidf_logistic", "nb_svm", "tfidf_char_logistic")


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "quality", raising=False)
    import quality

    return quality


def sets_module() -> Any:
    return sys.modules["_quality.sets"]


def record(quality: Any, name: str, seed: int, winner: float, *baselines: float) -> Any:
    scores = {"winner": winner, "ensemble": 0.9, **dict(zip(BASELINES, baselines, strict=True))}
    return quality.Record(
        name, seed, scores, scores, wall_seconds=60.0 * seed, documents=1_600, test_reads=3
    )


def test_a_gain_is_measured_against_the_best_mean_of_the_baselines(
    quality: Any,
) -> None:
    first = record(quality, "a", 1, 0.80, 0.70, 0.78, 0.60)
    second = record(quality, "a", 2, 0.84, 0.76, 0.80, 0.90)
    largest = record(quality, "imdb_all", 1, 0.91, 0.92, 0.90, 0.915)
    figures = quality.figures_of({"a": [first, second], "imdb_all": [largest]})
    assert figures["sets_won"] == 1
    assert figures["worst_gain"] == pytest.approx(-1.0)
    assert figures["mean_gain"] == pytest.approx((82 - 79 - 1) / 2)
    assert figures["sets_won_3"] == 1
    assert figures["a_gain_3"] == pytest.approx(82 - 79)
    assert figures["best_single"] == pytest.approx(91.0)
    assert figures["best_ensemble"] == pytest.approx(90.0)
    assert figures["a_minutes"] == pytest.approx(1.5)
    assert figures["test_reads"] == 9
    row = "| a | 1,600 | 82.0 | 90.0 | 73.0 | 79.0 | 75.0 | 1.5 |"
    assert quality.markdown({"a": [first, second]}).splitlines()[2] == row


@pytest.mark.parametrize(
    ("review", "sentence"),
    [
        ("Not bad. I liked it.", "Not bad."),
        ("... Well! Really<br /><br />odd.", "... Well!"),
        ("It cost 3.50 or so? Yes.", "It cost 3.50 or so?"),
        ("no end of a sentence", "no end of a sentence"),
    ],
)
def test_first_sentences_end_at_a_mark_after_a_word(
    quality: Any, review: str, sentence: str
) -> None:
    assert sets_module().first_sentence(review) == sentence


def test_each_seed_tests_on_other_amazon_reviews(quality: Any, tmp_path: Path) -> None:
    (tmp_path / "amazon").mkdir()
    texts = [f"text {number}" for number in range(40)]
    table = pd.DataFrame({"domain": "books", "text": texts, "label": [0, 1] * 20})
    table.to_csv(tmp_path / "amazon" / "amazon_multidomain.csv.gz", index=False)
    tested = []
    for seed in (1, 2):
        paths = sets_module().write_tables(quality.SETS[0], tmp_path, seed, tmp_path / str(seed))
        train, test = map(pd.read_csv, paths)
        assert len(train) == 32
        assert test["label"].value_counts().to_dict() == {0: 4, 1: 4}
        assert not set(train["text"]) & set(test["text"])
        tested.append(set(test["text"]))
    assert not tested[0] & tested[1]


def test_a_finished_search_is_not_repeated(quality: Any, tmp_path: Path) -> None:
    finished = record(quality, "books", 1, 0.8, 0.7, 0.7, 0.7)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "books-1.json").write_text(json.dumps(asdict(finished)))
    missing = quality.TextSet("books", lambda *_: pytest.fail("the data was read"))
    setting = quality.Setting(tmp_path, tmp_path, tmp_path)
    assert quality.search(missing, 1, setting) == finished
