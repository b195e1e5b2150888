"""Fetching archives: resumable, verified, written aside and renamed."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import CHUNK_BYTES, file_digest, locked, writing
from celltune.data_prep.types import Progress

_ADVICE = (
    "get aclImdb_v1.tar.gz by hand and set data.path to it (or to the unpacked folder aclImdb)"
)

TIMEOUT_SECONDS = 30
RANGE_NOT_SATISFIABLE, PARTIAL_CONTENT = 416, 206


def fetch(
    url: str,
    target: Path,
    *,
    md5: str | None,
    advice: str = _ADVICE,
    progress: Progress | None = None,
) -> Path:
    """Downloads ``url`` to ``target``; a cut download goes on where it stopped.

    ``target`` appears only when it is whole and its checksum is right. Two processes that want
    the same file download it once.

    Args:
        url: http or https.
        target: where the file shall lie.
        md5: the published checksum, None where none is. It guards against damage, not against
            an attacker.
        advice: what a person can do where there is no network.
        progress: told ``("download", bytes, total bytes)``.

    Raises:
        DataError: an unreachable address, a wrong checksum, or a disk that can't be written.
    """
    part = target.with_name(target.name + ".part")
    with writing(target.parent), locked(target.with_name(target.name + ".lock")):
        if target.exists():
            return target
        try:
            _receive(url, part, progress)
        except (http.client.HTTPException, ConnectionError, TimeoutError, HTTPError) as error:
            raise DataError(_by_hand(url, error, advice)) from error
        except OSError as error:
            # urllib's URLError is an OSError without a number; a disk's errors carry one.
            if error.errno is not None:
                raise
            raise DataError(_by_hand(url, error, advice)) from error
        found = file_digest(part, "md5") if md5 is not None else None
        if found != md5:
            part.unlink()
            raise DataError(
                f"the download of {url} is damaged: its md5 is {found}, not {md5}; it was removed. "
                f"Try again, or {advice}"
            )
        part.rename(target)
    return target


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = Request(url, headers=headers)  # noqa: S310 - the address is ours or torchtext's
    try:
        response = urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except HTTPError as error:
        error.close()
        if error.code == RANGE_NOT_SATISFIABLE and have:
            # All of it is here already, or more than there is: the checksum decides.
            return
        raise
    with response:
        if response.status != PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress("download", have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _by_hand(url: str, error: Exception, advice: str) -> str:
    why = getattr(error, "reason", None) or error
    return f"{url} can't be downloaded ({why}); check the network, or {advice}"
