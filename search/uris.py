"""Secrets in URIs: addresses that are stored or printed must not contain one."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_SCHEME = re.compile(r"[\s'\"]*([A-Za-z][A-Za-z0-9+.-]*):/+")
_URI = re.compile(r"([A-Za-z0-9+.-]{0,20})://[^\s\"]+")
_LONGEST = 2000
"""Number of characters of a text for messages."""
_SECRET_NAMES = re.compile(
    r"passw|pwd|passphrase|token|secret|credential|api.?key|access.?key|account.?key|private.?key"
    r"|signature|authori[sz]ation|bearer|jwt|^(?:pw|pass|auth|sig|sas|key)$",
    re.IGNORECASE,
)
_PORT = re.compile(r"[^:@]*:\d*")
_WITHOUT_SCHEME = re.compile(r"[\s'\"]*/*[^/\s:]*:[^/\s]*@")
_WITH_PATHS = frozenset(
    ("http", "https", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs", "file")
)
"""Schemes whose paths may contain an @. In those of databases it is always part of a password."""


def secret_in(uri: str) -> str | None:
    """Return which part of a URI is a secret, in words; None if there is none.

    A user name alone is a secret only over HTTP, where it usually is an access token. A password
    may contain a slash or a question mark, which databases and S3 accept without an escape.

    Args:
        uri: an address, such as `https://user:password@host/path?token=...`.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return "a password" if _WITHOUT_SCHEME.match(uri) else None
    rest = _decoded(uri[scheme.end() :])
    user_info, at, _ = rest.rpartition("@")
    if at:
        first = re.split(r"[/?#]", rest, maxsplit=1)[0]
        is_host = "@" not in first and (":" not in first or _PORT.fullmatch(first) is not None)
        in_path = is_host and scheme[1].lower() in _WITH_PATHS
        if ":" in user_info and not in_path:
            return "a password"
        if scheme[1].lower() in ("http", "https") and "@" in first:
            return "a user name or token"
    for name in re.findall(r"[?&;#]([^=&;#?]+)=[^&;#]", rest):
        if _SECRET_NAMES.search(name.strip()):
            return f"the parameter '{name.strip()[:40]}'"
    return None


def without_secrets(text: str) -> str:
    """Return text for messages: of a URI with a secret, only the scheme is left."""
    return _URI.sub(_without_secret, text[:_LONGEST])


def _without_secret(uri: re.Match[str]) -> str:
    # The secret of a URI that was cut may not be recognized.
    is_whole = uri.end() < _LONGEST
    return uri[0] if is_whole and secret_in(uri[0]) is None else f"{uri[1]}://..."


def _decoded(text: str) -> str:
    """Return text without percent-encoding, also if it was encoded several times."""
    for _ in range(4):
        decoded = unquote_plus(text)
        if decoded == text:
            break
        text = decoded
    return text
