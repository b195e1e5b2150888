from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.data_prep.errors import DataError
from celltune.data_prep.text.byte_pairs import _Merger, learn_subwords
from celltune.data_prep.text.subwords import Subwords

WORDS = st.dictionaries(st.text("▁abc", min_size=1, max_size=9), st.integers(1, 9), min_size=1)


def plain_merges(counts: dict[str, int], number: int, least: int) -> list[str]:
    """Learn merges as in the paper: count all pairs again after each merge."""
    words = {word: list(word) for word in counts}
    merges: list[str] = []
    while len(merges) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        total, best = min(((-count, pair) for pair, count in pairs.items()), default=(0, ("", "")))
        if -total < least:
            break
        merges.append("".join(best))
        for word, symbols in words.items():
            merged: list[str] = []
            position = 0
            while position < len(symbols):
                is_pair = tuple(symbols[position : position + 2]) == best
                merged.append("".join(best) if is_pair else symbols[position])
                position += 1 + is_pair
            words[word] = merged
    return merges


@given(counts=WORDS, least=st.integers(1, 6))
def test_merges_are_those_of_counting_all_pairs_again(counts: dict[str, int], least: int) -> None:
    merges = list(_Merger(counts, set("▁abc")).merges(least=least))
    assert merges == plain_merges(counts, 1_000, least)


def test_a_word_of_equal_characters_is_merged_from_left_to_right() -> None:
    assert list(_Merger({"aaaaa": 2}, {"a"}).merges(least=2)) == ["aa", "aaa", "aaaaa"]


def test_no_merge_contains_a_character_outside_of_the_alphabet() -> None:
    assert list(_Merger({"abxab": 3}, {"a", "b"}).merges(least=2)) == ["ab"]


@given(counts=WORDS, size=st.integers(1, 30), min_count=st.integers(1, 4))
def test_learned_subwords_keep_the_promises_of_the_vocabulary(
    counts: dict[str, int], size: int, min_count: int
) -> None:
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        characters.update({each: count * word.count(each) for each in set(word)})
    frequent = {each for each, count in characters.items() if count >= min_count}
    if not frequent:
        with pytest.raises(DataError, match="no character occurs"):
            learn_subwords(counts, size=size, min_count=min_count)
        return
    subwords = learn_subwords(counts, size=size, min_count=min_count)
    assert len(subwords) == len(set(subwords)) <= size
    if len(frequent) <= size:
        assert {each for each in subwords if len(each) == 1} == frequent
    uses: Counter[str] = Counter()
    for word, count in counts.items():
        for piece in Subwords(subwords).of_word(word):
            uses[piece] += count
    assert all(uses[each] >= min_count for each in subwords if len(each) > 1)
    assert subwords == sorted(subwords, key=lambda each: (-uses[each], each))


@given(counts=WORDS, data=st.data())
def test_subwords_do_not_depend_on_the_order_of_words(
    counts: dict[str, int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(list(counts)))
    shuffled = {word: counts[word] for word in order}
    assert learn_subwords(counts, size=12) == learn_subwords(shuffled, size=12)


def test_subwords_do_not_depend_on_the_hashes_of_strings() -> None:
    script = (
        "from celltune.data_prep.text.byte_pairs import learn_subwords\n"
        "words = [f'{a}{b}{c}' for a in 'xyz' for b in 'uvwuv' for c in ('ing', 'ed', 'er')]\n"
        "print(learn_subwords(dict.fromkeys(words, 2), size=25))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert b"ing" in printed.pop()


def test_frequent_words_become_subwords_and_rare_ones_are_split() -> None:
    counts = {"▁film": 50, "▁films": 20, "▁filming": 10, "▁acting": 12, "▁xylophone": 1}
    subwords = learn_subwords(counts, size=30)
    splitter = Subwords(subwords)
    assert splitter.of_word("▁film") == ["▁film"]
    assert splitter.of_word("▁filming") == ["▁filming"]
    assert "".join(splitter.of_word("▁xylophone")) == "▁xylophone"
    assert len(splitter.of_word("▁xylophone")) > 5


def test_error_for_too_rare_characters_names_the_most_frequent_count() -> None:
    message = (
        "The vocabulary would be empty: no character occurs 9 times in the training split, and the "
        "most frequent one occurs 4 times. Lower data.min_count."
    )
    with pytest.raises(DataError) as raised:
        learn_subwords({"ab": 1, "aaa": 1}, size=5, min_count=9)
    assert str(raised.value) == message


def test_special_tokens_are_no_subwords() -> None:
    subwords = learn_subwords({"<unk>": 9, "<pad>s": 9}, size=50)
    assert not {"<unk>", "<pad>"} & set(subwords)
    assert Subwords(subwords).of_word("<unk>") != ["<unk>"]
