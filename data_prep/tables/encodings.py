"""Recognizes the encoding of a text file.

A file that is valid UTF-8 is UTF-8: other encodings hardly ever form valid sequences by chance.
Otherwise two encodings are recognized, those that Windows and Excel write: UTF-16, and Windows-1252
for the languages of western Europe. Nothing else is guessed, because a wrong guess would replace
letters silently.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import BUFFER_BYTES, open_content
from celltune.printable import printable

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD_BYTES = 1 << 16
_CHARACTERS = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
"""Characters beyond ASCII in UTF-8, except that a few invalid sequences pass as well."""
_UNDEFINED = bytes.fromhex("81 8d 8f 90 9d")
"""Bytes that mean nothing in Windows-1252."""
_SIGN_IN_WORD = re.compile(
    rb"[A-Za-z][\x82\x84\x86-\x89\x8b\x95\x98\xa1-\xac\xae-\xb3\xb5\xb6\xb8-\xbf](?=[A-Za-z])"
)
"""Signs of Windows-1252 such as the superscript 3 within a word: these bytes are letters in the
encodings of other languages."""
_ACCENTED_RUN = re.compile(rb"[\xc0-\xff]{3,}")
"""Accented letters side by side: words in other scripts consist of them."""
_LETTERS = [*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]
_ACCENTED = "ŠšŽžŒœŸ" + bytes(range(0xC0, 0x100)).decode("windows-1252")


@dataclass
class _Counts:
    """Numbers of bytes and characters of a file that is not valid UTF-8."""

    characters: int = 0
    """Characters beyond ASCII, as far as they are valid UTF-8."""
    bytes_of_characters: int = 0
    signs: int = 0
    """Signs within words."""
    in_runs: int = 0
    """Accented letters in runs of at least three."""
    by_byte: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    """`(256,)` number of occurrences of each byte."""

    def add(self, chunk: bytes) -> None:
        self.by_byte += np.bincount(np.frombuffer(chunk, dtype=np.uint8), minlength=256)
        if not chunk.isascii():
            found = _CHARACTERS.findall(chunk)
            self.characters += len(found)
            self.bytes_of_characters += sum(map(len, found))
            self.signs += len(_SIGN_IN_WORD.findall(chunk))
            self.in_runs += sum(map(len, _ACCENTED_RUN.findall(chunk)))

    @property
    def high(self) -> int:
        """Bytes beyond ASCII."""
        return int(self.by_byte[128:].sum())

    @property
    def invalid(self) -> int:
        """Bytes that are not valid in UTF-8."""
        return self.high - self.bytes_of_characters

    @property
    def is_western(self) -> bool:
        """Whether the bytes can be Windows-1252: accented letters are a minority there."""
        return (
            not self.by_byte[[*_UNDEFINED]].any()
            and self.high * 3 <= int(self.by_byte[_LETTERS].sum())
            and max(self.signs, self.in_runs) * 20 <= self.high
            and self._has_western_letters
        )

    @property
    def _has_western_letters(self) -> bool:
        """Whether a language of western Europe has the accented letters in their numbers.

        Other single-byte encodings have other letters at the places of š, ž, õ, ð, þ and ý, so that
        these occur without the letters that are more frequent than they wherever they are used.
        """
        total = sum(self._count(letter) for letter in set(_ACCENTED.lower()))

        def have(letters: str, share: float) -> bool:
            return sum(map(self._count, letters)) > share * total

        # Estonian and Finnish have more ä; Czech, Croatian and others in Windows-1250 have not.
        if have("šž", 0.05) and not have("ä", 0.05):
            return False
        # Portuguese has more ã, Estonian more ä; õ is ő in Hungarian.
        if have("õ", 0.03) and not (have("ã", 0.02) or have("ä", 0.02)):
            return False
        # Icelandic has more á and í; þ and ð are ş and ğ in Turkish, ž and š in Lithuanian.
        return not have("þðý", 0.05) or (have("á", 0.02) and have("í", 0.02))

    def _count(self, letter: str) -> int:
        """Return how often a letter occurs in Windows-1252, upper and lower case together."""
        codes = (letter + letter.upper()).encode("windows-1252")
        return int(self.by_byte[[*{code for code in codes if code >= 128}]].sum())


def guess_encoding(path: Path, max_bytes: int | None) -> tuple[str | None, str]:
    """Return the encoding of a text file, plain or compressed, and the reason for it.

    The whole file is read. If its encoding is not certain, the result is None, and a message about
    it instead of the reason.

    Args:
        path: the file.
        max_bytes: limit for the file after decompression (see `content_limit`).

    Raises:
        DataError: it is not a text file, or is damaged or too large.
    """
    with open_content(path, max_bytes, has_lines=False) as content:
        head = content.read(_HEAD_BYTES)
        for mark, name in _MARKS.items():
            if head.startswith(mark):
                return name, "its byte order mark"
        if (variant := _without_mark(head)) is not None:
            return variant, "every second byte is NUL"
        _check_text(path, head)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while chunk := content.read(BUFFER_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            pass
        else:
            return "utf-8", "every byte is valid"
    return _guess_other(path, max_bytes)


def _without_mark(head: bytes) -> str | None:
    """Return which variant of UTF-16 without a byte order mark begins a file; None if none does."""
    low, high = head[::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if high * 2 > half and low * 20 <= half:
        return "utf-16-le"
    return "utf-16-be" if low * 2 > half and high * 20 <= half else None


def _check_text(path: Path, head: bytes) -> None:
    count = head.count(0)
    if count * 20 > len(head):
        raise DataError(
            f"{printable(path)} is not a text file: {count:,} of its first {len(head):,} bytes are "
            f"NUL. Set data.format to its format, or data.encoding to its encoding."
        )


def _guess_other(path: Path, max_bytes: int | None) -> tuple[str | None, str]:
    counts = _Counts()
    with open_content(path, max_bytes, has_lines=False) as content:
        while chunk := content.read(BUFFER_BYTES):
            counts.add(chunk)
    if counts.characters >= counts.invalid:
        # Its rows are reported where they are read.
        return "utf-8", f"all but {counts.invalid:,} bytes are valid"
    if counts.is_western and counts.characters * 10 <= counts.invalid:
        reason = f"{counts.high:,} bytes are not valid in UTF-8, but are western European letters"
        return "windows-1252", reason
    return None, (
        f"{printable(path)} is not UTF-8 ({counts.invalid:,} bytes are invalid), and its encoding "
        f"is not certain. Set data.encoding, for example to windows-1252 (western Europe), "
        f"windows-1250 (central Europe), windows-1251 (Cyrillic), windows-1254 (Turkish), gb18030 "
        f"(Chinese) or shift_jis (Japanese), or save the file as UTF-8."
    )
