"""Training of skip-gram word vectors with negative sampling, in C++ or, without a compiler, numpy.

At every position of the text, the words around it predict its word: each of them (an input) is
trained to have a large product with the word itself and small products with some negatives (the
outputs). All words around a position share its negatives, so that the products are those of two
small matrices, which is several times as fast as separate negatives for every pair.

One thread trains, position by position: the result does not depend on the number of processors.
Both implementations draw the same random numbers from the position in the text, and their vectors
are equal up to rounding, as are those of different processors.

Sources: Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", 2013; negatives per window: Ji et al., "Parallelizing Word2Vec in Shared and
Distributed Memory", 2016.

Shapes: n documents, N words in all documents, V distinct words, E components of a vector, S numbers
of a row, M words of a context, K outputs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.io.native_build import NativeCode

WINDOW = 5
"""Maximum distance of a word that predicts another; each position draws its own up to this."""
NEGATIVES = 5
"""Number of negatives per position."""
NEGATIVE_POWER = 0.75
"""A word is a negative in proportion to this power of its number of occurrences."""
SAMPLED_SHARE = 1e-3
"""Words with a larger share of the text are trained at some of their occurrences only."""
FIRST_RATE, LAST_RATE = 0.025, 1e-4
"""The learning rate falls linearly over all epochs."""
ROW_MULTIPLE = 16
"""S is a multiple of this: the widest vector of a processor in float32."""
BLOCK_WORDS = 1 << 20
"""Approximate number of words between two calls of the native code, which cannot be interrupted."""
TABLE_SLOTS_PER_WORD, MAX_TABLE_BITS = 32, 26
"""Size of the table that negatives are drawn from."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))

SKIP_GRAM = NativeCode(
    "skip_gram",
    "word vectors are learned by numpy, about 50 times as slowly",
    (Path(__file__).with_name("skip_gram.cpp"),),
    flags=(f"-DWINDOW={WINDOW}", f"-DNEGATIVES={NEGATIVES}"),
)


@dataclass(frozen=True, eq=False)
class NumberedText:
    """Documents as indices of words.

    Attributes:
        words: `(N,)` indices of words, at least one.
        offsets: `(n + 1,)`; document i is `words[offsets[i]:offsets[i + 1]]`.
        counts: `(V,)` number of occurrences of each word, at least 1.
    """

    words: NDArray[np.int32]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Epoch:
    """What both implementations read, in addition to the text.

    Attributes:
        kept: `(V,)` share of the occurrences that are trained, of 2^32.
        negatives: `(2^bits,)` words in proportion to their probability.
        inputs: `(V, S)` rows of the words as inputs; the result.
        outputs: `(V, S)` rows of the words as outputs.
        key: random number of the epoch.
        trained: words in earlier epochs.
        total: words in all epochs.
    """

    kept: NDArray[np.uint32]
    negatives: NDArray[np.int32]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    key: int
    trained: int
    total: int

    @property
    def bits(self) -> int:
        return len(self.negatives).bit_length() - 1


def train_vectors(
    text: NumberedText,
    *,
    size: int,
    epochs: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Learn a vector for every word of a text.

    Args:
        text: the documents.
        size: E.
        epochs: number of passes over the text, at least 1.
        seed: the same text and seed give the same vectors on the same machine.
        on_progress: is called with the number of words trained so far.

    Returns:
        `(V, E)`.

    Raises:
        MemoryError: there is not enough memory for the text.
    """
    rng = np.random.default_rng((seed, 2))
    stride = -(-size // ROW_MULTIPLE) * ROW_MULTIPLE
    inputs, outputs = (_aligned_zeros(len(text.counts), stride) for _ in range(2))
    inputs[:, :size] = (rng.random((len(text.counts), size), np.float32) - 0.5) / size
    kept, negatives = _kept(text.counts), _negatives(text.counts)
    words, train = len(text.words), _implementation()
    blocks = _blocks(text.offsets)
    for epoch in range(epochs):
        key = int(rng.integers(2**64, dtype=np.uint64))
        job = _Epoch(kept, negatives, inputs, outputs, key, epoch * words, epochs * words)
        for first, last in blocks:
            train(text, job, first, last)
            on_progress(job.trained + int(text.offsets[last]))
    return np.ascontiguousarray(inputs[:, :size])


def _implementation() -> Callable[[NumberedText, _Epoch, int, int], None]:
    return _train_in_numpy if _library() is None else _train_natively


def _aligned_zeros(rows: int, stride: int) -> NDArray[np.float32]:
    """Return zeros whose rows start at multiples of 64 bytes, which a processor reads faster."""
    values = np.zeros(rows * stride + 16, np.float32)
    begin = -(values.ctypes.data // 4) % 16
    return values[begin : begin + rows * stride].reshape(rows, stride)


def _kept(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the share of each word's occurrences that are trained, of 2^32, `(V,)`.

    Source: the formula of word2vec.c, which differs from the one in the paper.
    """
    ratio = SAMPLED_SHARE * counts.sum() / counts
    kept: NDArray[np.float64] = np.minimum(np.sqrt(ratio) + ratio, 1)
    return (kept * (2**32 - 1)).astype(np.uint32)


def _negatives(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return a table in which each word has slots in proportion to its probability."""
    bits = min((TABLE_SLOTS_PER_WORD * len(counts)).bit_length(), MAX_TABLE_BITS)
    bounds: NDArray[np.float64] = np.cumsum(counts**NEGATIVE_POWER)
    slots = (np.arange(1 << bits) + 0.5) / (1 << bits) * bounds[-1]
    table: NDArray[np.int32] = np.searchsorted(bounds, slots).astype(np.int32)
    return table


def _blocks(offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the first and last document of each block."""
    cuts = np.searchsorted(offsets, np.arange(BLOCK_WORDS, offsets[-1], BLOCK_WORDS))
    ends = [0, *np.unique(cuts).tolist(), len(offsets) - 1]
    return [(first, last) for first, last in pairwise(ends) if first < last]


class _Job(ctypes.Structure):
    """`Job` in skip_gram.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "offsets", "kept", "negatives")),
        *((name, ctypes.c_void_p) for name in ("inputs", "outputs")),
        *((name, ctypes.c_int64) for name in ("bits", "stride")),
        ("key", ctypes.c_uint64),
        *((name, ctypes.c_int64) for name in ("trained", "total")),
        *((name, ctypes.c_double) for name in ("first_rate", "last_rate")),
    )


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    library = SKIP_GRAM.load()
    if library is not None:
        library.celltune_skip_gram.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return library


def _train_natively(text: NumberedText, job: _Epoch, first: int, last: int) -> None:
    """Train the documents from `first` to `last` in C++; the GIL is released."""
    library = _library()
    arrays = (text.words, text.offsets, job.kept, job.negatives, job.inputs, job.outputs)
    native = _Job(
        *(array.ctypes.data for array in arrays),
        *(job.bits, job.inputs.shape[1], job.key, job.trained, job.total, FIRST_RATE, LAST_RATE),
    )
    if library is None or library.celltune_skip_gram(ctypes.byref(native), first, last):
        raise MemoryError("The word vectors of this text do not fit into memory.")


def _train_in_numpy(text: NumberedText, job: _Epoch, first: int, last: int) -> None:
    """Make the steps of skip_gram.cpp."""
    shift, draws_of_output = np.uint64(64 - job.bits), np.arange(1, NEGATIVES + 1, dtype=np.uint64)
    for document in range(first, last):
        begin, end = text.offsets[document : document + 2].tolist()
        progress = (job.trained + begin) / job.total
        rate = np.float32(FIRST_RATE + (LAST_RATE - FIRST_RATE) * progress)
        words = text.words[begin:end]
        draws = _mixed(np.uint64(job.key) + np.arange(begin, end, dtype=np.uint64) * _STEP)
        kept = draws >> np.uint64(32) <= job.kept[words]
        words, draws = words[kept], draws[kept]
        reach = (1 + ((draws & np.uint64(0xFFFF)) * np.uint64(WINDOW) >> np.uint64(16))).tolist()
        drawn = _mixed(draws[:, None] + draws_of_output * _STEP) >> shift  # (length, K - 1)
        outputs = np.concatenate([words[:, None], job.negatives[drawn]], axis=1)  # (length, K)
        for center, distance in enumerate(map(int, reach)):
            before = words[max(0, center - distance) : center]
            context = np.concatenate([before, words[center + 1 : center + distance + 1]])  # (M,)
            _train_window(job, context, outputs[center], rate)


def _train_window(
    job: _Epoch, context: NDArray[np.int32], chosen: NDArray[np.int32], rate: np.float32
) -> None:
    """Train the words of a context, `(M,)`, to predict the first of the `(K,)` chosen outputs."""
    inputs, outputs = job.inputs[context], job.outputs[chosen]  # (M, S), (K, S)
    products = inputs @ outputs.T  # (M, K)
    steps = -rate / (1 + np.exp(np.minimum(-products, 80)))
    steps[:, 0] += rate
    steps[:, 1:][:, chosen[1:] == chosen[0]] = 0
    # Rows can occur twice, so that an indexed assignment would lose one of the changes.
    np.add.at(job.inputs, context, steps @ outputs)
    np.add.at(job.outputs, chosen, steps.T @ inputs)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a random number for each number: the output function of SplitMix64."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * _FACTORS[0]
    numbers = (numbers ^ numbers >> np.uint64(27)) * _FACTORS[1]
    return numbers ^ numbers >> np.uint64(31)
