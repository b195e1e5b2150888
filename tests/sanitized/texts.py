"""Random texts and models of n-grams for the C++ code that reads them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.text import native_tokens
from celltune.data_prep.text.indexing import Numbering
from celltune.data_prep.text.tokenizers import open_tokenizer
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.native_sums import NativeSums
from celltune.data_prep.wide.storage import unpack
from celltune.data_prep.wide.text import normalize
from celltune.data_prep.wide_config import WideConfig

# What rules distinguish: line breaks and parts of them, marks, every kind of white space, and
# characters that share bytes with white space, change their size in lower case or are combined.
PIECES = (
    *("<br />", "<br", " />", "<", "/>", ">", "<br <br />/>", "<BR />", "&nbsp;"),
    *("'", ".", ",", "(", ")", "!", "?", '"', ";", ":", "-", "_"),
    *(" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85"),
    *("\u00a0", "\u1680", "\u180e", "\u2000", "\u200a", "\u200b", "\u2028", "\u2029"),
    *("\u202f", "\u205f", "\u3000", "\ufeff", "\u2060", "\u0300", "\u0301"),
    *("\0", "\x01", "\x7f", "\u0080", "\u00c2", "\u00e1", "\u1fff", "\u2010", "\u3001"),
    *("A", "z", "Z", "İ", "ẞ", "Σ", "ς", "ǅ", "²", "½", "映", "\U0001d4b3", "🙂", "\U0010ffff"),
    *("film", "movie", "not", "a" * 7, "b" * 8, "c" * 9, "d" * 15, "e" * 16, "f" * 17),
)


def random_text(rng: Generator) -> str:
    """Return a text of pieces, of random characters, or of one repeated piece."""
    kind = rng.integers(10)
    if kind == 0:
        return ""
    if kind == 1:
        return str(rng.choice(PIECES)) * int(rng.integers(1, 3000))
    if kind == 2:
        codes = rng.integers(0, 0x110000, rng.integers(1, 40))
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    separator = " " if kind < 6 else ""
    return separator.join(rng.choice(PIECES, rng.integers(1, 60)).tolist())


def random_texts(rng: Generator) -> list[str]:
    """Return up to seven texts."""
    return [random_text(rng) for _ in range(rng.integers(0, 8))]


def check_tokens(rng: Generator) -> None:
    """Compare the tokenizer with the Python rules; it survives bytes that are not UTF-8."""
    rules, texts = str(rng.choice(native_tokens.RULES)), random_texts(rng)
    lowercase = bool(rng.integers(2))
    found = native_tokens.number_texts(texts, rules, lowercase=lowercase)
    tokenizer, numbering = open_tokenizer(rules), Numbering()
    tokens = [tokenizer(text.lower() if lowercase else text) for text in texts]
    assert found.counts.tolist() == [len(each) for each in tokens]
    assert found.ids.tolist() == [number for each in tokens for number in numbering.of(each)]
    assert found.tokens == list(numbering)
    size = int(rng.integers(0, 400))
    _number_bytes(rng.choice(np.array([0x20, 0x3E, 0xC2, 0xE2, 0xFF], np.uint8), size))
    _number_bytes(rng.integers(0, 256, size).astype(np.uint8))


def _number_bytes(content: NDArray[np.uint8]) -> None:
    library = native_tokens._library()
    assert library is not None
    ids, counts = np.empty(len(content), np.int32), np.empty(1, np.int64)
    ends, size = np.array([len(content)], np.int64), ctypes.c_int64()
    arrays = (ids.ctypes.data, counts.ctypes.data)
    for basic in (0, 1):
        encoded = content.tobytes()
        numbers = library.celltune_tokens_index(encoded, ends.ctypes.data, 1, 1, basic, *arrays)
        assert numbers
        library.celltune_tokens_text(numbers, ctypes.byref(size))
        library.celltune_tokens_free(numbers)
        assert 0 <= counts[0] <= len(content)
        assert size.value <= 2 * len(content)


def check_long_texts(rng: Generator) -> None:
    """Compare the tokenizer on one line of 10 MB, without spaces and with little else."""
    for piece in ("x", " ", "<br />", ".", "\u2003", str(rng.choice(PIECES))):
        text = piece * (10_000_000 // len(piece.encode()))
        found = native_tokens.number_texts([text], "basic_english", lowercase=False)
        tokens = open_tokenizer("basic_english")(text)
        assert found.counts.tolist() == [len(tokens)]
        assert found.tokens == list(dict.fromkeys(tokens))


def check_ngrams(rng: Generator) -> None:
    """Compare sums of n-grams with numpy."""
    features = _fitted(rng)
    weights = rng.standard_normal((rng.choice([1, 3]), features.total)).astype(np.float32)
    texts = [normalize(text) for text in random_texts(rng)]
    expected = features.presence(texts).weighted_sums(weights)
    found = NativeSums(features, weights).of(texts)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    _sum_forged(rng, texts)


def _sum_forged(rng: Generator, texts: Sequence[str]) -> None:
    """Read texts with a model that no text has produced but that passes the validation.

    Its n-grams need not contain the parts of each other, of which numpy looks up both and C++ one.
    """
    features = _forged(rng)
    found = NativeSums(features, np.ones((1, features.total), np.float32)).of(texts)
    assert found.shape == (len(texts), 1)
    # The sum of k features of 1 / sqrt(k), in each of two blocks.
    assert ((found >= 0) & (found <= 2 * features.total**0.5)).all()


def _fitted(rng: Generator) -> NgramFeatures:
    known = [normalize(text) for text in [*random_texts(rng), "a film"]]
    config = WideConfig(
        words=int(rng.integers(1, 6)),
        characters=int(rng.choice([0, 2, 5, 10])),
        min_documents=int(rng.integers(1, 3)),
    )
    return NgramFeatures.fit(known, config).features


def _forged(rng: Generator) -> NgramFeatures:
    while True:
        words = sorted({word for word in random_text(rng).split("\n") if word} | {"film", "not"})
        arrays: dict[str, NDArray[Any]] = {"words": _bytes("\n".join(words))}
        arrays |= _keys(rng, "words", len(words), int(rng.integers(4)))
        if rng.integers(3):
            characters = "".join(rng.choice(PIECES, rng.integers(1, 30)).tolist())
            alphabet = np.unique(np.array(list(map(ord, characters)), np.int64))
            arrays["alphabet"] = alphabet
            arrays |= _keys(rng, "characters", len(alphabet), int(rng.integers(1, 6)))
        of_lengths = [len(values) for name, values in arrays.items() if "_" in name]
        arrays["weights"] = np.zeros((1, len(words) + sum(of_lengths)), np.float32)
        arrays["intercepts"] = np.zeros(1, np.float32)
        try:
            return unpack(arrays)[0]
        except DataError:
            continue


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _keys(rng: Generator, kind: str, symbols: int, levels: int) -> dict[str, NDArray[np.int64]]:
    """Return random ascending keys of n-grams of length 2, 3, and so on."""
    keys, nodes = {}, symbols
    for size in range(2, levels + 2):
        # The largest key is often among them, which is the one closest to the end of an array.
        limit = nodes * symbols
        drawn = rng.integers(0, max(limit, 1), rng.integers(0, 60))
        keys[f"{kind}_{size}"] = np.unique(drawn if rng.integers(2) else [*drawn, limit - 1])
        if not limit:
            keys[f"{kind}_{size}"] = np.empty(0, np.int64)
        nodes = len(keys[f"{kind}_{size}"])
    return keys
