"""Sums of n-gram weights in C++ (native_sums.cpp), available if the machine has a compiler.

They equal those of `NgramFeatures.presence` and `Presence.weighted_sums` apart from rounding, at a
tenth of the CPU time.

Shapes: n texts, F features, L outputs.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.io.native_build import NativeCode
from celltune.data_prep.wide.blocks import CharacterNgrams, WordNgrams
from celltune.data_prep.wide.features import NgramFeatures
from celltune.data_prep.wide.ngrams import NgramTable

SUMS = NativeCode(
    "wide-sums",
    "n-grams are looked up by numpy",
    (Path(__file__).with_name("native_sums.cpp"),),
)

CODE_POINTS = 0x110000
_UNCLASSIFIED, _SPACE, _WORD, _MARK = range(4)

_kinds = np.zeros(CODE_POINTS, np.uint8)
"""Kind of each code point that has occurred. Threads that fill it write the same values."""


class _Table(ctypes.Structure):
    """Has the layout of `Table` in native_sums.cpp."""

    _fields_ = (
        ("symbols", ctypes.c_int64),
        ("levels", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("keys", ctypes.c_void_p),
        ("shortest", ctypes.c_int64),
        ("first_feature", ctypes.c_int64),
    )


class _Arrays(ctypes.Structure):
    """Has the layout of `Arrays` in native_sums.cpp."""

    _fields_ = (
        ("words", ctypes.c_void_p),
        ("word_ends", ctypes.c_void_p),
        ("characters", ctypes.c_void_p),
        ("code_points", ctypes.c_int64),
        ("of_words", _Table),
        ("of_characters", _Table),
        ("weights", ctypes.c_void_p),
        ("features", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


def available() -> bool:
    """Return whether the library can be used; the first call may compile it."""
    return _library() is not None


class NativeSums:
    """Adds up the weights of the n-grams of texts. Objects can be used by several threads.

    Args:
        features: the n-grams.
        weights: `(L, F)`.

    Raises:
        RuntimeError: the library is not available.
        MemoryError: there is not enough memory for the model.
    """

    def __init__(self, features: NgramFeatures, weights: NDArray[np.float32]) -> None:
        library = _library()
        if library is None:
            raise RuntimeError("The native n-grams are not available. Call available() first.")
        self._sums = library.celltune_wide_sums
        self._kept: list[NDArray[Any]] = []
        self._outputs = len(weights)
        arrays = _Arrays(features=features.total, outputs=self._outputs)
        arrays.weights = self._address(weights)
        for block, first in zip(features.blocks, features.first_features, strict=True):
            if isinstance(block, WordNgrams):
                arrays.of_words = self._table(block.table, first)
                codes, ends = _encoded(block.words)
                arrays.words, arrays.word_ends = self._address(codes), self._address(ends)
            elif isinstance(block, CharacterNgrams):
                arrays.of_characters = self._table(block.table, first)
                symbols = np.full(int(block.alphabet.max(initial=-1)) + 1, -1, np.int32)
                symbols[block.alphabet] = np.arange(len(block.alphabet))
                arrays.characters, arrays.code_points = self._address(symbols), len(symbols)
        self._model = library.celltune_wide_model(ctypes.byref(arrays))
        if not self._model:
            raise MemoryError("The n-grams of the wide part do not fit into memory.")
        weakref.finalize(self, library.celltune_wide_free, self._model)

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the product of the features of normalized texts and the weights, `(n, L)`.

        The GIL is released.

        Raises:
            MemoryError: there is not enough memory.
        """
        codes, ends = _encoded(texts)
        _classify(codes)
        sums = np.empty((len(texts), self._outputs))
        failed = self._sums(
            self._model,
            codes.ctypes.data,
            ends.ctypes.data,
            len(texts),
            _kinds.ctypes.data,
            sums.ctypes.data,
        )
        if failed:
            raise MemoryError("The n-grams of the texts do not fit into memory.")
        return sums

    def _table(self, table: NgramTable, first_feature: int) -> _Table:
        sizes = np.array([len(keys) for keys in table.keys], np.int64)
        keys = np.concatenate([*table.keys, np.empty(0, np.int64)])
        addresses = self._address(sizes), self._address(keys)
        return _Table(table.symbols, len(sizes), *addresses, table.shortest, first_feature)

    def _address(self, array: NDArray[Any]) -> int:
        """Keep an array as long as this object exists, and return its address."""
        self._kept.append(np.ascontiguousarray(array))
        return self._kept[-1].ctypes.data


def _encoded(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the code points of all texts, and the end of each text."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, "<u4").astype(np.uint32, copy=False), ends


def _classify(codes: NDArray[np.uint32]) -> None:
    """Fill `_kinds` for code points, as `str.split` and the classes of `re` define them."""
    for code in set(codes[_kinds[codes] == _UNCLASSIFIED].tolist()):
        character = chr(code)
        is_word = character == "_" or character.isalnum()
        _kinds[code] = _WORD if is_word else _SPACE if character.isspace() else _MARK


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    library = SUMS.load()
    if library is not None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        library.celltune_wide_model.restype = pointer
        library.celltune_wide_model.argtypes = (pointer,)
        library.celltune_wide_free.restype = None
        library.celltune_wide_free.argtypes = (pointer,)
        library.celltune_wide_sums.restype = ctypes.c_int
        library.celltune_wide_sums.argtypes = (
            *(pointer, pointer, pointer),
            *(number, pointer, pointer),
        )
    return library
