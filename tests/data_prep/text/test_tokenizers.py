from __future__ import annotations

import csv
import gzip
import itertools
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchtext.data.utils import get_tokenizer

from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.synthetic import SyntheticSource
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.tokenizers import basic_english, tokenizer

theirs = get_tokenizer("basic_english")
SHARED = os.environ.get("CELLTUNE_SHARED_DATA")
SHARED_DATA = Path(SHARED) if SHARED else Path(__file__).parents[4] / "shared" / "data"
REAL = SHARED_DATA / "imdb" / "train.csv.gz"

NASTY = st.sampled_from(
    [
        *("<br />", "<BR />", '<br" />', "<br / >", "'", '"', ".", "...", "(", ")", "!?", ";", ":"),
        *(",", "\u00a0", "\u2028", "\x1c", "\x85", "İ", "ß", "don't", "U.S.", "word", " ", "\n"),
    ]
)


def test_the_registry_knows_it_by_name() -> None:
    assert tokenizer("basic_english") is basic_english


def test_lower_casing_is_an_option_of_the_others() -> None:
    assert tokenizer("whitespace")("Good  film.\n") == ["Good", "film."]
    assert tokenizer("whitespace", lowercase=True)("Good") == ["good"]
    assert tokenizer("basic_english", lowercase=True) is basic_english


@pytest.mark.skipif(find_spec("spacy") is None, reason="needs celltune[spacy]")
@pytest.mark.filterwarnings("default")
def test_spacy_takes_its_rules_for_english() -> None:
    spacy = tokenizer("spacy")
    assert spacy("It isn't Mr. Bad, is it?") == "It is n't Mr. Bad , is it ?".split()  # noqa: SIM905
    assert tokenizer("spacy", lowercase=True)("It ISN'T") == ["it", "is", "n't"]
    found = index_texts(["It isn't", "", "is it"], "spacy")
    assert [found.tokens[i] for i in found.ids] == ["It", "is", "n't", "is", "it"]
    assert found.offsets.tolist() == [0, 3, 3, 5]


def test_without_spacy_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    monkeypatch.setitem(sys.modules, "spacy.lang.en", None)
    with pytest.raises(DataError, match=r"pip install 'celltune\[spacy\]'"):
        tokenizer("spacy")


@given(st.lists(NASTY).map("".join) | st.text())
def test_nasty_texts_give_torchtexts_tokens(text: str) -> None:
    assert basic_english(text) == theirs(text)


def test_synthetic_reviews_give_torchtexts_tokens() -> None:
    for row in SyntheticSource(200, 0.02, seed=1).documents():
        assert basic_english(row.text) == theirs(row.text) == row.text.split()


@pytest.mark.skipif(not REAL.exists(), reason="the real reviews aren't on this machine")
@pytest.mark.parametrize("name", ["train", "test"])
def test_real_reviews_give_torchtexts_tokens(name: str) -> None:
    """A sample of both files; all 50,000 reviews with CELLTUNE_ALL_REVIEWS=1, in a minute."""
    most = None if os.environ.get("CELLTUNE_ALL_REVIEWS") else 500
    with gzip.open(REAL.with_name(f"{name}.csv.gz"), "rt", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in itertools.islice(csv.DictReader(file), most)]
    found = index_texts(texts, "basic_english")
    for text, (begin, end) in zip(texts, itertools.pairwise(found.offsets), strict=True):
        wanted = theirs(text)
        assert basic_english(text) == wanted
        assert [found.tokens[index] for index in found.ids[begin:end]] == wanted
