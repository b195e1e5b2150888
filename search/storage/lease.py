"""A lease: the lock of an experiment in an object store, where no file can be locked.

**Protocol.** The driver that holds the lease owns an object `lock/<generation>-<random token>`.
Every `BEAT_SECONDS` it rewrites that object with a higher beat number as a sign of life. To take
the lease, a process

1. reads the object of the highest generation. If the lease is released, or its owner is dead, it
   continues; otherwise it gives up (`HeldError`).
2. writes an object of the next generation.
3. lists all objects. If another process wrote one of the same or a higher generation, it removes
   its own and starts again; otherwise it holds the lease.

On the owner's machine, an owner is dead if its process has ended. On other machines, it is dead if
its beat number does not change during `DEAD_BEATS` beats of watching. Clocks are never compared.
Generations only grow: a released lease remains as an object until the next one is taken.

**Assumption.** The store need not offer locks or conditional writes. It must show every write that
returned to all later reads and listings.

**Why two drivers never both append.**

- *Two processes take the same generation.* Each one writes its object before it lists. The later of
  the two listings shows both objects, so at least one process sees the other and gives up.
- *A live driver was mistaken for dead*, for example after a long network failure. After each append
  it lists the leases again (`Lease.confirm`). If the listing shows no higher generation, the append
  completed before the successor could have read the ledger, so the successor saw it. If it does
  show one, the append does not count and the driver stops. Readers ignore it too, because it has a
  lower generation (see `ledger_segments`).
"""

from __future__ import annotations

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

from celltune.printable import printable
from celltune.search.errors import ExperimentError, LedgerError, StorageError
from celltune.search.storage.object_path import ObjectPath

_log = logging.getLogger(__name__)

BEAT_SECONDS = 3.0
"""Seconds between two signs of life of a driver."""
DEAD_BEATS = 5
"""Beats without a sign of life after which a lease may be taken over."""
SEEN_BEATS = 2
"""Beats without a sign of life after which `is_leased` reports that no driver runs."""
_ATTEMPTS = 8
_OWNER_CHARACTERS = 200

_ENTRY = re.compile(r"(\d{8})-[0-9a-f]{16}")


class HeldError(Exception):
    """A live driver holds the lease. The message describes the driver."""


class Lease:
    """The lease of this process. Invariant: at most one process holds a generation."""

    def __init__(self, prefix: ObjectPath, experiment: str) -> None:
        """Take the lease of an experiment, whose objects are under `prefix`.

        This takes some seconds if the owner on another machine shows no sign of life.

        Args:
            prefix: the prefix of the lease's objects.
            experiment: the name of the experiment, for messages.

        Raises:
            HeldError: a live driver holds the lease.
            ExperimentError: other processes compete for the lease.
            OSError: the store cannot be reached.
        """
        self._prefix = prefix
        self._experiment = experiment
        self._beat = 0
        self._loss: LedgerError | StorageError | None = None
        self._abandoned = False
        self._released = threading.Event()
        self.generation, self._name = self._take()
        self._heartbeat = threading.Thread(target=self._show_life, name="lease", daemon=True)
        self._heartbeat.start()

    def _take(self) -> tuple[int, str]:
        for _ in range(_ATTEMPTS):
            newest = _newest(self._prefix)
            for name in newest:
                if owner := _live_owner(self._prefix / name, DEAD_BEATS):
                    raise HeldError(owner)
            generation = _generation(newest[0]) + 1 if newest else 1
            name = f"{generation:08d}-{secrets.token_hex(8)}"
            self._write(name)
            names = self._prefix.names()
            if not any(other != name and _generation(other) >= generation for other in names):
                self._remove_older(generation)
                return generation, name
            (self._prefix / name).unlink()
            # A random delay, so that two competing processes do not collide again.
            time.sleep(secrets.randbelow(1000) / 1000 * BEAT_SECONDS / 3)
        raise ExperimentError(
            f"Several processes are starting '{self._experiment}' at the same time. Try again."
        )

    def _remove_older(self, generation: int) -> None:
        for name in self._prefix.names():
            if 0 < _generation(name) < generation:
                try:
                    (self._prefix / name).unlink()
                except OSError as error:
                    _log.debug("%s/%s was not removed: %s", self._prefix, name, error.strerror)

    def _write(self, name: str, *, released: bool = False) -> None:
        content = {**_this_process(), "beat": self._beat, "released": released}
        (self._prefix / name).write_bytes(json.dumps(content).encode())

    def _show_life(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            self.beat()

    def beat(self) -> None:
        """Show a sign of life, unless the lease was removed or taken over."""
        self._beat += 1
        try:
            self._look_for_loss()
            # A lease that was removed must not appear again.
            if self._loss is None:
                self._write(self._name)
        except OSError as error:
            # An outage matters only for appends, and the next append reports it.
            _log.debug("the sign of life could not be written: %s", error.strerror)

    def confirm(self) -> None:
        """Check that every later holder of the lease sees what was written before this call.

        Raises:
            LedgerError: another driver took over.
            StorageError: the lease was removed, probably with the whole experiment.
            OSError: the store cannot be reached.
        """
        self._look_for_loss()
        self.check_in_place()

    def check_in_place(self) -> None:
        """Check that the last heartbeat or `confirm` found the lease; does not access the store.

        Raises:
            LedgerError: another driver took over.
            StorageError: the lease was removed, probably with the whole experiment.
        """
        if self._loss is not None:
            raise self._loss

    def _look_for_loss(self) -> None:
        names = self._prefix.names()
        if any(_generation(name) > self.generation for name in names):
            self._loss = LedgerError(
                f"Another driver took over the experiment '{self._experiment}', because this one "
                f"sent no heartbeat for {DEAD_BEATS * BEAT_SECONDS:g} s. All recorded events are "
                "safe. Resume the experiment after the other driver has ended."
            )
        elif self._name not in names:
            self._loss = StorageError(
                f"The lock {self._prefix} was removed while the search was running, so the search "
                "has ended. If the whole experiment was removed, its recorded events are lost. "
                "Otherwise they are safe, and the experiment can be resumed."
            )

    def abandon(self) -> None:
        """Show no more signs of life; the caller removes the lease with the experiment."""
        self._released.set()
        self._heartbeat.join()
        self._abandoned = True

    def release(self) -> None:
        """Release the lease. If the store cannot be reached, others must wait until it is dead."""
        self._released.set()
        self._heartbeat.join()
        if self._loss is not None or self._abandoned:
            return
        try:
            self._write(self._name, released=True)
        except OSError as error:
            _log.warning(
                "The lock %s cannot be released: %s. It expires by itself.",
                self._prefix,
                error.strerror,
            )


def is_leased(prefix: ObjectPath) -> bool:
    """Return whether a live driver holds the lease.

    This takes some seconds if the owner on another machine shows no sign of life.

    Raises:
        OSError: the store cannot be reached.
    """
    return any(_live_owner(prefix / name, SEEN_BEATS) for name in _newest(prefix))


def _generation(name: str) -> int:
    """Return the generation in an object's name; 0 if it is not the name of a lease."""
    match = _ENTRY.fullmatch(name)
    return int(match[1]) if match else 0


def _newest(prefix: ObjectPath) -> list[str]:
    """Return the names with the highest generation: several while processes compete for it."""
    names = [name for name in prefix.names() if _generation(name)]
    highest = max(map(_generation, names), default=0)
    return [name for name in names if _generation(name) == highest]


def _live_owner(entry: ObjectPath, beats: int) -> str:
    """Return the owner of a lease if it is alive, else an empty string.

    Args:
        entry: the lease's object.
        beats: Beats to wait for a sign of life of an owner on another machine.
    """
    first = _read(entry)
    if first.get("released", True):
        return ""
    if (alive := _is_alive_here(first)) is not None:
        return _owner(first) if alive else ""
    deadline = time.monotonic() + beats * BEAT_SECONDS
    if beats == DEAD_BEATS:
        seconds = beats * BEAT_SECONDS
        _log.info("waiting %.0f s for a sign of life of %s", seconds, _owner(first))
    while time.monotonic() < deadline:
        time.sleep(BEAT_SECONDS / 6)
        latest = _read(entry)
        if latest.get("released", True):
            return ""
        if latest.get("beat") != first.get("beat"):
            return _owner(latest)
    return ""


def _read(entry: ObjectPath) -> dict[str, Any]:
    try:
        content = json.loads(entry.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        return {"released": False, "owner": "a driver whose lease is not readable"}
    return content if isinstance(content, dict) else {}


def _owner(content: Mapping[str, Any]) -> str:
    return printable(content.get("owner"), _OWNER_CHARACTERS)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "owner": f"pid {pid} on {os.uname().nodename}",
        "machine": _machine(),
        "pid": pid,
        "started": _start_time(pid),
    }


def _is_alive_here(content: Mapping[str, Any]) -> bool | None:
    """Return whether the owner's process runs; None if it belongs to another machine."""
    if not _machine() or content.get("machine") != _machine():
        return None
    pid = content.get("pid")
    return isinstance(pid, int) and _start_time(pid) == content.get("started")


def _machine() -> str:
    """Return an id of this boot of this machine and its pid namespace; empty if not available."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (not a file path)
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty if it has ended.

    It distinguishes a process from a later one with the same pid.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
