"""A vocabulary's words as two arrays, so that they too are shared without copies.

25,000 Python strings take 2 MB in each process that has them; a trial needs none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class PackedWords(Sequence[str]):
    """Words that are decoded when they are looked at. Equal to any sequence of the same words.

    Args:
        text: ``(bytes,)`` uint8, all words in utf-8, one after the other.
        ends: ``(len,)``, where each word ends in ``text``.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """See the class."""
        self._text, self._ends = text, ends

    @classmethod
    def of(cls, words: Iterable[str]) -> PackedWords:
        """The same words, packed."""
        encoded = [word.encode("utf-8", "surrogatepass") for word in words]
        ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """The number of words."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """The word of an id, or those of a slice."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        at = range(len(self))[index]
        begin = self._ends[at - 1] if at else 0
        return self._text[begin : self._ends[at]].tobytes().decode("utf-8", "surrogatepass")

    def __eq__(self, other: Any) -> bool:
        """Whether the other holds the same words in the same order."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # it equals tuples and lists

    @property
    def nbytes(self) -> int:
        """The bytes that the arrays take."""
        return self._text.nbytes + self._ends.nbytes
