from __future__ import annotations

import csv
import gzip
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchtext.data.utils import get_tokenizer

from data_prep.synthetic import SyntheticReviews
from data_prep.tokenizers import basic_english, tokenizer

theirs = get_tokenizer("basic_english")
SHARED = os.environ.get("CELLTUNE_SHARED_DATA")
SHARED_DATA = Path(SHARED) if SHARED else Path(__file__).parents[3] / "shared" / "data"
REAL = SHARED_DATA / "imdb" / "train.csv.gz"

NASTY = st.sampled_from(
    [
        *("<br />", "<BR />", '<br" />', "<br / >", "'", '"', ".", "...", "(", ")", "!?", ";", ":"),
        *(",", "\u00a0", "\u2028", "\x1c", "\x85", "İ", "ß", "don't", "U.S.", "word", " ", "\n"),
    ]
)


def test_the_registry_knows_it_by_name() -> None:
    assert tokenizer("basic_english") is basic_english


@given(st.lists(NASTY).map("".join) | st.text())
def test_nasty_texts_give_torchtexts_tokens(text: str) -> None:
    assert basic_english(text) == theirs(text)


def test_synthetic_reviews_give_torchtexts_tokens() -> None:
    for row in SyntheticReviews(200, 0.02, seed=1).rows():
        assert basic_english(row.text) == theirs(row.text) == row.text.split()


@pytest.mark.skipif(not REAL.exists(), reason="the real reviews aren't on this machine")
def test_real_reviews_give_torchtexts_tokens() -> None:
    with gzip.open(REAL, "rt", encoding="utf-8", newline="") as file:
        for row in itertools.islice(csv.DictReader(file), 500):
            assert basic_english(row["text"]) == theirs(row["text"])
