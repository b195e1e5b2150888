"""Resumable downloads with checksums."""

from __future__ import annotations

import http.client
import stat
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import CHUNK_BYTES, file_digest, locked, writing
from celltune.data_prep.types import Progress
from celltune.printable import printable

TIMEOUT_SECONDS = 30
MAX_BYTES = 1 << 34
"""Largest download: 16 GiB. The largest known file, GloVe's 840B, has 2 GiB."""
RANGE_NOT_SATISFIABLE, PARTIAL_CONTENT = 416, 206


def fetch(
    url: str,
    target: Path,
    *,
    md5: str | None,
    advice: str,
    progress: Progress | None = None,
) -> Path:
    """Download `url` to `target`; an interrupted download continues where it stopped.

    `target` only appears when the download is complete and its checksum is correct. If two
    processes want the same file, one downloads it and the other waits.

    Args:
        url: http or https.
        target: path of the downloaded file; an existing file is returned without a download.
        md5: the published checksum, or None if there is none. It detects damage, not an attack.
        advice: a sentence for error messages: how to get the file without this download.
        progress: called as `progress("download", bytes_done, bytes_total)`.

    Raises:
        DataError: the address is unreachable, the checksum is wrong, or the disk cannot be
            written.
    """
    partial = target.with_name(target.name + ".part")
    with writing(target.parent), locked(target.with_name(target.name + ".lock")):
        if target.exists():
            return target
        try:
            _receive(url, partial, progress)
        except (http.client.HTTPException, ConnectionError, TimeoutError, HTTPError) as error:
            raise DataError(_unreachable(url, error, advice)) from error
        except OSError as error:
            # urllib's URLError is an OSError without a number; errors of the disk have one.
            if error.errno is not None:
                raise
            raise DataError(_unreachable(url, error, advice)) from error
        digest = file_digest(partial, "md5") if md5 is not None else None
        if digest != md5:
            partial.unlink()
            raise DataError(
                f"The download of {url} is damaged: its MD5 checksum is {digest} instead of {md5}. "
                f"It was removed. Try again. {advice}"
            )
        partial.rename(target)
    return target


def _receive(url: str, partial: Path, progress: Progress | None) -> None:
    """Download to `partial`, or complete what it already contains."""
    received = _bytes_received(partial)
    headers = {"Range": f"bytes={received}-"} if received else {}
    request = Request(url, headers=headers)  # noqa: S310 (the URL is fixed, not user input)
    try:
        response = urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == RANGE_NOT_SATISFIABLE and received:
            # The file is complete or too long; its checksum decides.
            return
        raise
    with response:
        if response.status != PARTIAL_CONTENT:
            received = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
            raise http.client.HTTPException("the server sent another part than the requested one")
        length = response.headers.get("Content-Length", "")
        # The limit for the digits is that of MAX_BYTES; Python's `int` accepts signs and spaces.
        is_length = length.isascii() and length.isdigit() and len(length) <= len(str(MAX_BYTES))
        total = received + int(length) if is_length else None
        if not received:
            partial.unlink(missing_ok=True)
        with partial.open("ab" if received else "xb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                if received > MAX_BYTES:
                    partial.unlink()
                    raise http.client.HTTPException(f"it has more than {MAX_BYTES:,} bytes")
                if progress:
                    progress("download", received, total)
    if total is not None and received < total:
        raise http.client.IncompleteRead(b"", total - received)


def _bytes_received(partial: Path) -> int:
    """Return the size of an interrupted download; 0 if something else has its name.

    A link, a second name of another file, or a special file is replaced, never written to.
    """
    try:
        found = partial.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0


def _unreachable(url: str, error: Exception, advice: str) -> str:
    reason = getattr(error, "reason", None) or error
    shown = printable(reason, 200)
    return f"{url} cannot be downloaded ({shown}). Check the network. {advice}"
