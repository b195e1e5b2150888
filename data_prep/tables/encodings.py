"""Recognizes the encoding of a text file.

A file that is valid UTF-8 is UTF-8: other encodings hardly ever form valid sequences by chance.
Otherwise two encodings are recognized, those that Windows and Excel write: UTF-16, and Windows-1252
for the languages of western Europe. Nothing else is guessed, because a wrong guess would replace
letters silently.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

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
_ASCII = bytes(range(128))
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
"""Bytes that mean nothing in Windows-1252."""
_SIGN_IN_WORD = re.compile(rb"[A-Za-z][\xa1-\xac\xae-\xb3\xb5\xb6\xb8-\xbf](?=[A-Za-z])")
"""Signs of Windows-1252 such as the superscript 3 within a word: these bytes are letters in the
encodings of other languages."""
_LETTER = re.compile(rb"[A-Za-z]")


@dataclass
class _Counts:
    """Numbers of bytes and characters of a file that is not valid UTF-8."""

    high: int = 0
    """Bytes beyond ASCII."""
    characters: int = 0
    """Characters beyond ASCII, as far as they are valid UTF-8."""
    bytes_of_characters: int = 0
    undefined: int = 0
    signs: int = 0
    letters: int = 0

    def add(self, chunk: bytes) -> None:
        high = len(chunk.translate(None, _ASCII))
        self.letters += len(chunk.translate(None, _NO_LETTERS))
        if high:
            found = _CHARACTERS.findall(chunk)
            self.high += high
            self.characters += len(found)
            self.bytes_of_characters += sum(map(len, found))
            self.undefined += len(_UNDEFINED.findall(chunk))
            self.signs += len(_SIGN_IN_WORD.findall(chunk))

    @property
    def invalid(self) -> int:
        """Bytes that are not valid in UTF-8."""
        return self.high - self.bytes_of_characters

    @property
    def is_western(self) -> bool:
        """Whether the bytes can be Windows-1252: accented letters are a minority there."""
        return not self.undefined and self.high * 3 <= self.letters and self.signs * 20 <= self.high


_NO_LETTERS = bytes(byte for byte in range(256) if not _LETTER.match(bytes([byte])))


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
        f"windows-1250 (central Europe), windows-1251 (Cyrillic), gb18030 (Chinese) or shift_jis "
        f"(Japanese), or save the file as UTF-8."
    )
