"""Who may write an experiment in an object store, where no file can be locked.

A driver holds a lease object, `lock/<generation>-<token>`, and shows in it every few seconds that
it lives. No clock is compared: a lease is dead when its content hasn't changed for so long while
somebody watched; on the owner's own machine it is seen at once whether its process is there. A
driver that takes over writes an object of the next generation. Generations only grow: the last
lease stays as a released one.

Neither an atomic write nor a lock is asked of the store, only that a write that returned is seen by
every later read and listing. What follows from that:

- Two that take the same generation at once: each writes its object and then lists. The later one of
  the two listings shows both, so at least one sees its rival, and whoever does gives up.
- A driver that was taken for dead and isn't: it writes, and then lists (`confirm`). If its listing
  shows no higher generation, its write came before whatever the successor reads after taking over;
  if it does, the write doesn't count, and the driver stops. So what counts is known to every
  successor, however slow or wrong any watch or clock was.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celltune.search.storage.object_path import ObjectPath

_log = logging.getLogger(__name__)

BEAT_SECONDS = 3.0
"""How often a driver shows that it lives."""
DEAD_BEATS = 5
"""For so many beats a lease must be watched without change before it is taken over."""
SEEN_BEATS = 2
"""For so many beats a lease is watched to say whether a driver runs."""

_ENTRY = re.compile(r"(\d{8})-[0-9a-f]{16}")


class HeldError(Exception):
    """A live driver holds the lease; the message says who."""


class Lease:
    """The lease of this process. Invariant: at most one driver holds a generation."""

    def __init__(self, place: ObjectPath) -> None:
        """Take the lease kept under `place`, watching a silent owner for some seconds first.

        Raises:
            HeldError: a live driver has it.
            OSError: the store can't be reached.
        """
        self._place = place
        self._beat = 0
        self._done = threading.Event()
        self.generation, self._name = self._take()
        self._heart = threading.Thread(target=self._show_life, name="lease", daemon=True)
        self._heart.start()

    def _take(self) -> tuple[int, str]:
        for _ in range(8):
            top = _top(self._place)
            for name in top:
                if owner := _owner(self._place / name, DEAD_BEATS):
                    raise HeldError(owner)
            generation = _generation(top[0]) + 1 if top else 1
            name = f"{generation:08d}-{secrets.token_hex(8)}"
            self._write(name)
            rivals = [n for n in self._place.names() if n != name and _generation(n) >= generation]
            if not rivals:
                self._tidy(generation)
                return generation, name
            (self._place / name).unlink()
            time.sleep(secrets.randbelow(1000) / 1000 * BEAT_SECONDS / 3)
        raise HeldError("others that start at this moment")

    def _tidy(self, generation: int) -> None:
        for name in self._place.names():
            if 0 < _generation(name) < generation:
                _forget(self._place / name)

    def _write(self, name: str, *, released: bool = False) -> None:
        content = {**_myself(), "beat": self._beat, "released": released}
        (self._place / name).write_bytes(json.dumps(content).encode())

    def _show_life(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            self._beat += 1
            try:
                self._write(self._name)
            except OSError as error:  # The next append tells it, where it matters.
                _log.debug("no sign of life could be written: %s", error.strerror)

    def confirm(self) -> None:
        """Make sure that what was written before this call is seen by whoever takes over.

        Raises:
            OSError: another driver took over, or the store can't be reached.
        """
        if any(_generation(name) > self.generation for name in self._place.names()):
            raise OSError(
                errno.EPERM,
                "another driver took the experiment over, because this one showed no sign of life "
                "for too long",
                str(self._place),
            )

    def release(self) -> None:
        """Give the lease back. If the store can't be reached, the lease is left to be judged."""
        self._done.set()
        self._heart.join()
        try:
            self._write(self._name, released=True)
        except OSError as error:
            _log.warning("The lock %s can't be given back: %s", self._place, error.strerror)


def is_leased(place: ObjectPath) -> bool:
    """Whether a live driver has the lease; takes some seconds where one left it without a word."""
    return any(_owner(place / name, SEEN_BEATS) for name in _top(place))


def _generation(name: str) -> int:
    match = _ENTRY.fullmatch(name)
    return int(match[1]) if match else 0


def _top(place: ObjectPath) -> list[str]:
    """The leases of the highest generation: one, or several that are being sorted out."""
    names = [name for name in place.names() if _generation(name)]
    highest = max(map(_generation, names), default=0)
    return [name for name in names if _generation(name) == highest]


def _owner(entry: ObjectPath, beats: int) -> str:
    """Who holds the lease `entry`; nobody if it is released, gone, or without a sign of life."""
    first = _look(entry)
    if first.get("released", True):
        return ""
    if (lives := _lives_here(first)) is not None:
        return str(first.get("owner")) if lives else ""
    deadline = time.monotonic() + beats * BEAT_SECONDS
    if beats == DEAD_BEATS:
        _log.info("watching for %.0f s whether %s lives", beats * BEAT_SECONDS, first.get("owner"))
    while time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS / 6)
        now = _look(entry)
        if now.get("released", True):
            return ""
        if now.get("beat") != first.get("beat"):
            return str(now.get("owner"))
    return ""


def _look(entry: ObjectPath) -> dict[str, Any]:
    try:
        content = json.loads(entry.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"released": False, "owner": "a driver whose lease can't be read"}
    return content if isinstance(content, dict) else {}


def _forget(entry: ObjectPath) -> None:
    try:
        entry.unlink()
    except OSError as error:
        _log.debug("%s isn't removed: %s", entry, error.strerror)


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "owner": f"pid {pid} on {os.uname().nodename}",
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
    }


def _lives_here(content: Mapping[str, Any]) -> bool | None:
    """Whether the owner's process is there; None if it isn't of this machine, so nobody can say."""
    if not _machine() or content.get("machine") != _machine():
        return None
    return _started(content.get("pid", 0)) == content.get("started")


def _machine() -> str:
    """This boot of this machine, and which numbering of processes; empty where it isn't told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (no path, but a name)
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks since boot; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
