"""Byte-pair encoding: learns which subwords the words of a language consist of.

Every word starts as a sequence of characters. The most frequent pair of neighbours is replaced by
one symbol, again and again; the symbols are the subwords.

Source: Sennrich, Haddow and Birch (2016), "Neural machine translation of rare words with subword
units", section 3.2. Unlike there, texts are segmented with the longest subwords (see `Subwords`),
so that the merges need not be stored, and subwords that this never uses are removed.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

from celltune.data_prep.dataset.vocabulary import SPECIALS
from celltune.data_prep.errors import DataError
from celltune.data_prep.text.subwords import Subwords

LEARNER_VERSION = 1
"""Incremented whenever the same words would give other subwords; part of fingerprints."""

Pair = tuple[str, str]


def learn_subwords(counts: Mapping[str, int], *, size: int, min_count: int = 1) -> list[str]:
    """Learn the subwords of words.

    The result depends on neither the order of the words nor the hashes of strings.

    Args:
        counts: number of occurrences of each word of the training split, at least 1.
        size: maximum number of subwords. If there are more characters, the most frequent ones are
            the subwords.
        min_count: rarer characters are no subwords, and neither are longer strings that occur less
            often when the words are split into subwords.

    Returns:
        The subwords, the most frequent ones first; ties are in alphabetical order. All characters
        are among them, unless `size` or `min_count` excludes them.

    Raises:
        DataError: there would be no subword.
    """
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    ranked = sorted((-count, character) for character, count in characters.items())
    alphabet = [character for count, character in ranked[:size] if -count >= min_count]
    if not alphabet:
        most = -ranked[0][0] if ranked else 0
        raise DataError(
            f"The vocabulary would be empty: no character occurs {min_count} times in the training "
            f"split, and the most frequent one occurs {most} times. Lower data.min_count."
        )
    subwords = dict.fromkeys(alphabet)
    for merged in _Merger(counts, frozenset(alphabet)).merges(least=max(2, min_count)):
        if len(subwords) >= size:
            break
        if merged not in SPECIALS:
            subwords[merged] = None
    return _used(list(subwords), counts, min_count)


def _used(subwords: list[str], counts: Mapping[str, int], min_count: int) -> list[str]:
    """Return the subwords without long ones that are rare, ranked by their number of uses."""
    while True:
        splitter = Subwords(subwords)
        uses: Counter[str] = Counter()
        for word, count in counts.items():
            for piece in splitter.of_word(word):
                uses[piece] += count
        # Without a rare subword, words are split differently, which changes the uses of others.
        kept = [each for each in subwords if len(each) == 1 or uses[each] >= max(1, min_count)]
        if len(kept) == len(subwords):
            return sorted(kept, key=lambda each: (-uses[each], each))
        subwords = kept


class _Merger:
    """Merges the most frequent pair of symbols in a list of distinct words.

    All words are concatenated into one doubly linked list of symbols. A merge visits only the
    places where its pair occurs, and updates the counts of the pairs around them.

    Attributes:
        _symbols: the symbol that starts at a position; None inside a symbol, between words, and for
            characters that are no subwords.
        _next, _before: positions of the neighbours.
        _weights: number of occurrences of the word at a position.
        _totals: number of occurrences of each pair.
        _places: positions of each pair's first symbol; may contain outdated ones.
    """

    def __init__(self, counts: Mapping[str, int], alphabet: Collection[str]) -> None:
        self._symbols: list[str | None] = [None]
        self._weights = [0]
        for word, count in counts.items():
            self._symbols += [each if each in alphabet else None for each in word]
            self._symbols.append(None)
            self._weights += [count] * (len(word) + 1)
        size = len(self._symbols)
        self._next, self._before = list(range(1, size + 1)), list(range(-1, size - 1))
        self._totals: defaultdict[Pair, int] = defaultdict(int)
        self._places: defaultdict[Pair, list[int]] = defaultdict(list)
        for position in range(size - 1):
            self._add(position, position + 1)

    def merges(self, *, least: int) -> Iterator[str]:
        """Yield the symbol of each merge, until no pair occurs `least` times.

        The most frequent pair is merged; of equally frequent ones, the alphabetically first.
        """
        queue = [(-total, pair) for pair, total in self._totals.items()]
        heapq.heapify(queue)
        while queue:
            negative, pair = heapq.heappop(queue)
            total = self._totals.get(pair, 0)
            if total < least:
                continue
            if total != -negative:
                # The pair has become rarer, or more frequent and is in the queue again.
                if total < -negative:
                    heapq.heappush(queue, (-total, pair))
                continue
            for changed in self._merge(pair):
                heapq.heappush(queue, (-self._totals[changed], changed))
            yield pair[0] + pair[1]

    def _merge(self, pair: Pair) -> list[Pair]:
        """Merge a pair everywhere; return the pairs that became more frequent."""
        symbols, following, before = self._symbols, self._next, self._before
        left, right = pair
        merged = left + right
        changed: dict[Pair, None] = {}
        for first in sorted(self._places.pop(pair)):
            second = following[first]
            # In "aaa", the second "aa" does not exist any more after the first was merged.
            if symbols[first] != left or symbols[second] != right:
                continue
            previous, after = before[first], following[second]
            self._remove(previous, first)
            self._remove(second, after)
            symbols[first], symbols[second] = merged, None
            following[first], before[after] = after, first
            for start, end in ((previous, first), (first, after)):
                added = self._add(start, end)
                if added is not None:
                    changed[added] = None
        self._totals.pop(pair, None)
        return list(changed)

    def _add(self, first: int, second: int) -> Pair | None:
        left, right = self._symbols[first], self._symbols[second]
        if left is None or right is None:
            return None
        pair = left, right
        self._totals[pair] += self._weights[first]
        self._places[pair].append(first)
        return pair

    def _remove(self, first: int, second: int) -> None:
        left, right = self._symbols[first], self._symbols[second]
        if left is not None and right is not None:
            self._totals[left, right] -= self._weights[first]
