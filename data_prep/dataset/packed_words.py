"""A vocabulary's words in two arrays, which processes can share without copies.

As Python strings, 25,000 words take 2 MB in every process, and a trial reads none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class PackedWords(Sequence[str]):
    """Words that are decoded on access. Equal to any sequence of the same words.

    Args:
        text: `(bytes,)` uint8, all words in UTF-8 without separators.
        ends: `(len,)` end of each word in `text`.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    @classmethod
    def of(cls, words: Iterable[str]) -> PackedWords:
        """Pack words."""
        encoded = [word.encode("utf-8", "surrogatepass") for word in words]
        ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return the word of an id, or the words of a slice."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = range(len(self))[index]
        begin = self._ends[position - 1] if position else 0
        return self._text[begin : self._ends[position]].tobytes().decode("utf-8", "surrogatepass")

    def __eq__(self, other: Any) -> bool:
        """Return whether the other sequence contains the same words in the same order."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # equal to tuples and lists, which hash differently

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self._text.nbytes + self._ends.nbytes
