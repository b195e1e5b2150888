"""The arrays of a wide part, and their validation.

::

    words            (bytes,) uint8     the known words in UTF-8, separated by line feeds
    words_2 ...      (k,) int64         ascending keys of the n-grams of 2, 3, etc. words
    alphabet         (A,) int64         ascending code points of the known characters
    characters_2 ... (k,) int64         as for words
    weights          (L, F) float32     features of words by length, then those of characters
    intercepts       (L,) float32

Without n-grams of characters, `alphabet` and `characters_*` are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.tensor_file import LARGEST_WEIGHT, are_weights
from celltune.data_prep.wide.blocks import (
    SHORTEST_CHARACTERS,
    Block,
    CharacterNgrams,
    WordNgrams,
)
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.ngrams import Integers, NgramTable
from celltune.data_prep.wide.text import SEPARATOR
from celltune.data_prep.wide_config import LONGEST_CHARACTERS, LONGEST_WORDS
from celltune.printable import quoted

Arrays = Mapping[str, NDArray[Any]]
Floats32 = NDArray[np.float32]

WORDS, ALPHABET, CHARACTERS = "words", "alphabet", "characters"
WEIGHTS, INTERCEPTS = "weights", "intercepts"
_MAX_CODE_POINT = 0x10FFFF
_LONGEST = {WORDS: LONGEST_WORDS, CHARACTERS: LONGEST_CHARACTERS}
_MOST_FEATURES = 2**31 - 1
"""native_sums.cpp numbers features and n-grams with 32 bits."""


def pack(
    features: NgramFeatures, weights: Floats32, intercepts: Floats32
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model; see `WideModel` for the arguments."""
    arrays: dict[str, NDArray[Any]] = {WEIGHTS: weights, INTERCEPTS: intercepts}
    for block in features.blocks:
        if isinstance(block, WordNgrams):
            joined = SEPARATOR.join(block.words).encode("utf-8", "surrogatepass")
            arrays[WORDS] = np.frombuffer(joined, np.uint8)
        elif isinstance(block, CharacterNgrams):
            arrays[ALPHABET] = block.alphabet
        for size, keys in enumerate(block.table.keys, start=2):
            arrays[f"{block.kind}_{size}"] = keys
    return arrays


def unpack(arrays: Arrays) -> tuple[NgramFeatures, Floats32, Floats32]:
    """Return features, weights and intercepts.

    Raises:
        DataError: an array is missing, unknown, or not what it should be.
    """
    blocks: list[Block] = [_unpack_words(arrays)]
    if ALPHABET in arrays:
        blocks.append(_unpack_characters(arrays))
    features = NgramFeatures(blocks)
    symbols = sum(block.table.symbols for block in blocks)
    _require(
        features.total + symbols <= _MOST_FEATURES,
        WEIGHTS,
        f"it has {features.total:,} features. Allowed are at most {_MOST_FEATURES:,}",
    )
    weights = _array(arrays, WEIGHTS, np.float32, 2)
    intercepts = _array(arrays, INTERCEPTS, np.float32, 1)
    outputs = len(intercepts)
    _require(
        outputs == 1 or outputs >= 3,
        INTERCEPTS,
        f"it has {outputs} outputs. Allowed are 1 or at least 3",
    )
    shape = (outputs, features.total)
    _require(weights.shape == shape, WEIGHTS, f"its shape is {weights.shape}, but not {shape}")
    for name, values in ((WEIGHTS, weights), (INTERCEPTS, intercepts)):
        _require(are_weights(values), name, f"a value is NaN or above {LARGEST_WEIGHT:g}")
    known = set(pack(features, weights, intercepts))
    for name in arrays:
        _require(name in known, name, "a model has no such array")
    return features, weights, intercepts


def _unpack_words(arrays: Arrays) -> WordNgrams:
    try:
        joined = _array(arrays, WORDS, np.uint8, 1).tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise _invalid(WORDS, "it is not UTF-8") from error
    words = joined.split(SEPARATOR) if joined else []
    _require("" not in words, WORDS, "a word is empty")
    _require(len(set(words)) == len(words), WORDS, "a word is there twice")
    return WordNgrams(words, NgramTable(len(words), _keys(arrays, WORDS, len(words)), 1))


def _unpack_characters(arrays: Arrays) -> CharacterNgrams:
    alphabet = _array(arrays, ALPHABET, np.int64, 1)
    _require_ascending(alphabet, ALPHABET, _MAX_CODE_POINT + 1)
    keys = _keys(arrays, CHARACTERS, len(alphabet))
    _require(bool(keys), f"{CHARACTERS}_{SHORTEST_CHARACTERS}", "it is missing")
    return CharacterNgrams(alphabet, NgramTable(len(alphabet), keys, SHORTEST_CHARACTERS))


def _keys(arrays: Arrays, kind: str, symbols: int) -> Sequence[Integers]:
    """Return the keys of each length from 2."""
    lengths = range(2, _LONGEST[kind] + 1)
    names = takewhile(arrays.__contains__, (f"{kind}_{size}" for size in lengths))
    keys, nodes = [], symbols
    for name in names:
        keys.append(_array(arrays, name, np.int64, 1))
        _require_ascending(keys[-1], name, nodes * symbols)
        nodes = len(keys[-1])
    return keys


def _array(arrays: Arrays, name: str, dtype: type[np.generic], dimensions: int) -> NDArray[Any]:
    if name not in arrays:
        raise _invalid(name, "it is missing")
    array = arrays[name]
    expected = f"{np.dtype(dtype)} with {dimensions} dimensions"
    actual = f"{array.dtype} with {array.ndim} dimensions"
    _require(actual == expected, name, f"it is {actual}, but not {expected}")
    return array


def _require_ascending(values: Integers, name: str, limit: int) -> None:
    ascending = bool((values[1:] > values[:-1]).all())
    in_range = not len(values) or (values[0] >= 0 and int(values[-1]) < limit)
    _require(ascending and in_range, name, f"its values do not ascend from 0 to below {limit}")


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise _invalid(name, problem)


def _invalid(name: str, problem: str) -> DataError:
    return DataError(
        f"The array {quoted(name)} of the wide part is invalid: {problem}. The file that contains "
        f"it is damaged or of another version: create it again."
    )
