from __future__ import annotations

import csv
import gzip
import itertools
import os
import re
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
from celltune.data_prep.text.tokenizers import BasicEnglish, open_tokenizer, tokenizer_version
from celltune.testing.tokenizer import TokenizerContract

basic_english = BasicEnglish()
torchtext_basic_english = get_tokenizer("basic_english")
SHARED = os.environ.get("CELLTUNE_SHARED_DATA")
SHARED_DATA = Path(SHARED) if SHARED else Path(__file__).parents[4] / "shared" / "data"
IMDB = SHARED_DATA / "imdb" / "train.csv.gz"

PIECES = st.sampled_from(
    [
        *("<br />", "<BR />", '<br" />', "<br / >", "'", '"', ".", "...", "(", ")", "!?", ";", ":"),
        *(",", "\u00a0", "\u2028", "\x1c", "\x85", "İ", "ß", "don't", "U.S.", "word", " ", "\n"),
    ]
)


class TestBasicEnglish(TokenizerContract):
    tokenizer = "basic_english"


class TestWhitespace(TokenizerContract):
    tokenizer = "whitespace"


class TestWordsForSubwords(TokenizerContract):
    tokenizer = "bpe"


@pytest.mark.skipif(find_spec("spacy") is None, reason="needs celltune[spacy]")
@pytest.mark.filterwarnings("default")
class TestSpacy(TokenizerContract):
    tokenizer = "spacy"


@pytest.mark.parametrize("name", ["basic_english", "whitespace", "spacy", "bpe"])
def test_builtin_tokenizers_have_no_version(name: str) -> None:
    assert tokenizer_version(name) == ""


def test_lower_casing_is_optional_except_for_basic_english() -> None:
    assert open_tokenizer("whitespace")("Good  film.\n") == ["Good", "film."]
    assert open_tokenizer("whitespace", lowercase=True)("Good") == ["good"]
    assert isinstance(open_tokenizer("basic_english", lowercase=True), BasicEnglish)


@pytest.mark.skipif(find_spec("spacy") is None, reason="needs celltune[spacy]")
@pytest.mark.filterwarnings("default")
def test_spacy_applies_its_english_rules() -> None:
    spacy = open_tokenizer("spacy")
    assert spacy("It isn't Mr. Bad, is it?") == "It is n't Mr. Bad , is it ?".split()  # noqa: SIM905
    assert open_tokenizer("spacy", lowercase=True)("It ISN'T") == ["it", "is", "n't"]
    indexed = index_texts(["It isn't", "", "is it"], "spacy")
    assert [indexed.tokens[i] for i in indexed.ids] == ["It", "is", "n't", "is", "it"]
    assert indexed.offsets.tolist() == [0, 3, 3, 5]


def test_error_names_the_extra_if_spacy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    monkeypatch.setitem(sys.modules, "spacy.lang.en", None)
    with pytest.raises(DataError, match=r"pip install 'celltune\[spacy\]'"):
        open_tokenizer("spacy")


@pytest.mark.parametrize("name", ["basic_english", "whitespace", "bpe"])
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("text", ["", " \n", "<br />", "'", "a", "word", "A <br /> b"])
def test_has_token_agrees_with_the_tokens(name: str, lowercase: bool, text: str) -> None:
    tokenizer = open_tokenizer(name, lowercase=lowercase)
    assert tokenizer.has_token(text) == bool(tokenizer(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's so-so :-)", "▁It ' s ▁so - so ▁:-)"),
        ("Good.<br /><BR/>Bad<br>film", "▁Good . ▁Bad ▁film"),
        ("<br<br>/> a", "▁< br ▁/> ▁a"),
        ("今天的电影很好看。我喜欢!", "▁今天的电影很好看 。 我喜欢 !"),
        ("हिन्दी फ़िल्म", "▁हिन्दी ▁फ़िल्म"),
        ("a\u200cb ❤\ufe0f", "▁a\u200cb ▁❤\ufe0f"),
        ("a▁b \0\0c", "▁a ▁b \0\0 c"),
    ],
)
def test_words_for_subwords(text: str, words: str) -> None:
    assert open_tokenizer("bpe")(text) == words.split(" ")


def test_words_for_subwords_are_cut_at_a_bounded_length() -> None:
    words = open_tokenizer("bpe")("好" * 70 + "!" * 40 + " " + "x" * 33)
    assert [len(word) for word in words] == [33, 32, 6, 32, 8, 33, 1]


@given(st.lists(PIECES | st.sampled_from(["好看", "。", "e\u0301", "\U0001f600"])).map("".join))
def test_joined_words_for_subwords_are_the_text_without_repeated_white_space(text: str) -> None:
    plain = re.sub(r"(?i)<br ?/?>", "\n", text)
    assert "".join(open_tokenizer("bpe")(text)) == "".join(f"▁{each}" for each in plain.split())


@given(st.lists(PIECES).map("".join) | st.text())
def test_basic_english_equals_torchtext_on_difficult_texts(text: str) -> None:
    assert basic_english(text) == torchtext_basic_english(text)


def test_basic_english_equals_torchtext_on_synthetic_documents() -> None:
    for document in SyntheticSource(200, 0.02, seed=1).documents():
        expected = torchtext_basic_english(document.text)
        assert basic_english(document.text) == expected == document.text.split()


@pytest.mark.skipif(not IMDB.exists(), reason="the IMDB reviews are not on this machine")
@pytest.mark.parametrize("name", ["train", "test"])
def test_basic_english_equals_torchtext_on_imdb(name: str) -> None:
    """Compares 500 reviews of each split; all 50,000 with CELLTUNE_ALL_REVIEWS=1 in a minute."""
    limit = None if os.environ.get("CELLTUNE_ALL_REVIEWS") else 500
    with gzip.open(IMDB.with_name(f"{name}.csv.gz"), "rt", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in itertools.islice(csv.DictReader(file), limit)]
    indexed = index_texts(texts, "basic_english")
    for text, (begin, end) in zip(texts, itertools.pairwise(indexed.offsets), strict=True):
        expected = torchtext_basic_english(text)
        assert basic_english(text) == expected
        assert [indexed.tokens[index] for index in indexed.ids[begin:end]] == expected
