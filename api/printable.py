"""Text from files, configs and users, made safe to show to people."""

from __future__ import annotations

import re
import reprlib

QUOTED_CHARACTERS = 80
"""The largest length of a quoted value, with its quotes."""

# Characters that move the cursor, hide or reorder text, or start another line: the categories Cc,
# Cf, Zl, Zp and Cs of Unicode 15 except visible signs (such as U+0600) and joiners.
_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
# Persian and Indic words and sequences of emoji need joiners; elsewhere they only hide in text.
_JOINABLE = rf"[^\x00-\u02ff\u200c\u200d{_HIDDEN}]"
_JOINERS = rf"(?<!{_JOINABLE})[\u200c\u200d]|[\u200c\u200d](?!{_JOINABLE})"
_UNSAFE = re.compile(rf"[{_HIDDEN}]|{_JOINERS}")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: object, limit: int | None = None) -> str:
    r"""Return text that is safe to show on one line of a terminal or page.

    Control characters, line separators, bidirectional controls, invisible characters and surrogates
    become visible escapes such as `\x1b` or `\n`. A second call changes nothing. Backslashes stay
    as they are, so the original cannot be recovered: files for programs keep exact values.

    Args:
        text: the text; other objects are converted, long or deeply nested ones shortened.
        limit: the largest number of characters of the result, at least 1; a cut ends with `…`.
    """
    shown = text if isinstance(text, str) else _converted(text)
    if limit is None:
        # Most texts need no escape, and this test takes a tenth of the time of a search.
        if shown.isascii() and shown.isprintable():
            return shown
        return _UNSAFE.sub(_escape, shown)
    # An escape is never shorter than its character, so the rest cannot be part of the result.
    escaped = _UNSAFE.sub(_escape, shown[: limit + 1])
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def printable_lines(text: str) -> str:
    """Return text of several lines that is safe to show: `printable` applied to each line."""
    return "\n".join(map(printable, text.split("\n")))


def quoted(value: object) -> str:
    """Return a value as error messages quote it: in single quotes, at most 80 characters."""
    return f"'{printable(value, QUOTED_CHARACTERS - 2)}'"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class _Shortened(reprlib.Repr):
    """Representations whose time and length do not grow with the object."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = QUOTED_CHARACTERS

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        # Python refuses to write thousands of decimal digits; hexadecimal ones have no limit.
        return str(x) if x.bit_length() < 1024 else f"{hex(x)[:QUOTED_CHARACTERS]}…"


_shortened = _Shortened()


def _converted(value: object) -> str:
    """Return an object as text; integers and containers (aliases may repeat) are shortened."""
    if isinstance(value, (list, tuple, dict, set, frozenset)) or type(value) is int:
        return _shortened.repr(value)
    return str(value)
