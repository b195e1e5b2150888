"""Ledgers: damaged bytes, lines in other places, and absurd events with valid checksums.

A ledger whose bytes were changed has to be rejected, or has to show the original numbers. Only a
cut at the end cannot be told from a crash: then the numbers are those of the lines before it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from _hostile import catalogue
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Command, Kind
from _hostile.mutations import TEXTS, deep, dumped, hostile_value, mutated_bytes, mutated_json

LEDGER = "ledger.jsonl"
NAMES = ("small", "open")
_PATHS = (
    "../../../outside/victim",
    "../../../../outside/victim",
    "../../../other/trials/0/epoch-1",
    "..",
    ".",
    "epoch-1/../../../../../outside/victim",
    "epoch-1\0",
    "",
)


def build(box: Box, random: Random) -> Case:
    """Change the ledger of an experiment."""
    strategies: tuple[tuple[Callable[[Box, str, Random], Case], float], ...] = (
        (_damaged, 4),
        (_moved, 1.5),
        (_forged, 5),
        (_paths, 1),
        (_inserted, 2),
    )
    name = random.choice(NAMES)
    builders, weights = zip(*strategies, strict=True)
    return random.choices(builders, weights)[0](box, name, random)


def events_of(path: Path) -> list[dict[str, Any]]:
    """Return the content of the lines."""
    return [json.loads(line)["data"] for line in path.read_bytes().splitlines()]


def write_events(path: Path, events: list[Any]) -> None:
    """Write lines with valid numbers and checksums."""
    first = events[0] if events and isinstance(events[0], dict) else {}
    identity = first.get("experiment_id")
    bound = zlib.crc32(identity.encode()) if isinstance(identity, str) and identity.isascii() else 0
    lines = []
    for number, event in enumerate(events):
        data = dumped(event)
        start = zlib.crc32(b"%d:" % number, bound if number else 0)
        checksum = b"%08x" % zlib.crc32(data, start)
        lines.append(b'{"n": %d, "crc": "%b", "data": %b}\n' % (number, checksum, data))
    path.write_bytes(b"".join(lines))


def _damaged(box: Box, name: str, random: Random) -> Case:
    path = box / f"storage/{name}/{LEDGER}"
    original = path.read_bytes()
    changed, label = mutated_bytes(original, random)
    path.write_bytes(changed)
    return _compared(name, label, original, changed, random)


def _moved(box: Box, name: str, random: Random) -> Case:
    path = box / f"storage/{name}/{LEDGER}"
    original = path.read_bytes()
    lines = original.splitlines(keepends=True)
    first, second = (random.randrange(len(lines)) for _ in range(2))
    action = random.choice(("swapped", "copied", "removed", "foreign", "foreign end", "reversed"))
    if action == "swapped":
        lines[first], lines[second] = lines[second], lines[first]
    elif action == "copied":
        lines.insert(first, lines[second])
    elif action == "removed":
        del lines[first]
    elif action == "reversed":
        lines.reverse()
    else:
        foreign = (box / f"storage/other/{LEDGER}").read_bytes().splitlines(keepends=True)
        place = min(first, len(foreign) - 1)
        lines[place:] = (
            [foreign[place], *lines[place + 1 :]] if action == "foreign" else foreign[place:]
        )
    changed = b"".join(lines)
    path.write_bytes(changed)
    label = f"line {first}: {action} ({second})"
    return _compared(name, label, original, changed, random)


def _compared(name: str, label: str, original: bytes, changed: bytes, random: Random) -> Case:
    """Return a case that may only show the original numbers, or those of a ledger that ends."""
    states: dict[str, Callable[[Box], None]] = {}
    same_as = [ORIGINAL]
    lines = original.splitlines(keepends=True)
    complete = changed[: changed.rfind(b"\n") + 1].splitlines(keepends=True)
    if complete == lines[: len(complete)]:
        key = f"{name} cut after {len(complete)}"
        states[key] = lambda box: _cut(box / f"storage/{name}/{LEDGER}", len(complete))
        same_as.append(key)
    return Case(f"{name}: {label}", catalogue.for_experiment(name, random), tuple(same_as), states)


def _cut(path: Path, count: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:count]))


def _forged(box: Box, name: str, random: Random) -> Case:
    """Change fields of events; the numbers may change, but have to be possible ones."""
    path = box / f"storage/{name}/{LEDGER}"
    events = events_of(path)
    count = random.choice((1, 1, 1, 2, 5))
    labels = []
    for _ in range(count):
        index = random.randrange(len(events))
        kind = events[index].get("event") if isinstance(events[index], dict) else "?"
        if random.random() < 0.3:
            label = _absurd(events[index], random)
        else:
            events[index], label = mutated_json(events[index], random)
        labels.append(f"{kind} {index}: {label}")
    write_events(path, events)
    commands = catalogue.for_experiment(name, random)
    return Case(f"{name}: {'; '.join(labels)}", commands, check=possible_numbers)


def _absurd(event: Any, random: Random) -> str:
    """Change a field that exists, in a way that its type allows."""
    if not isinstance(event, dict):
        return "nothing"
    key = random.choice(list(event))
    old = event[key]
    if isinstance(old, str):
        event[key] = random.choice(TEXTS)
    elif isinstance(old, bool) or old is None:
        event[key] = hostile_value(random)
    elif isinstance(old, (int, float)):
        event[key] = random.choice((-1, 0, -(10**9), 10**9, 1e300, -1e300, 10**17, 253402300800))
    elif isinstance(old, dict):
        action = random.choice(("empty", "extra", "value", "gone"))
        if action == "empty" or not old:
            event[key] = {}
        elif action == "extra":
            old[random.choice(TEXTS)] = random.choice((0.5, 1, "text"))
        elif action == "value":
            old[random.choice(list(old))] = random.choice((5.0, -1.0, 1e300, "text", TEXTS[3]))
        else:
            del old[random.choice(list(old))]
    elif isinstance(old, list):
        event[key] = random.choice(([], old * 2, old[:-1], [[1], [2, 3]], [[-5]], deep(30)))
    return f"absurd {key}"


def _paths(box: Box, name: str, random: Random) -> Case:
    """Name checkpoints, experiments and data outside of the experiment's folder."""
    path = box / f"storage/{name}/{LEDGER}"
    events = events_of(path)
    hostile = random.choice((*_PATHS, str(box / "outside/victim")))
    fields = ("checkpoint", "experiment", "fingerprint", "origin", "owner", "test_fingerprint")
    chosen = random.sample(fields, random.choice((1, 2, len(fields))))
    some = random.random() < 0.5
    for event in events:
        for holder in (event, *event.get("members", ()), event.get("best") or {}):
            for key in chosen:
                if key in holder and (not some or random.random() < 0.5):
                    holder[key] = hostile
    write_events(path, events)
    label = f"{name}: {', '.join(chosen)} = {hostile!r}"
    commands = catalogue.for_experiment(name, random, first="resume")
    return Case(label, commands, check=possible_numbers)


def _inserted(box: Box, name: str, random: Random) -> Case:
    """Append, insert or remove events with valid checksums, in orders that never occur."""
    path = box / f"storage/{name}/{LEDGER}"
    events = events_of(path)
    action = random.choice(("insert", "remove", "shuffle", "foreign", "first", "many", "kept"))
    if action == "insert":
        events.insert(random.randrange(len(events) + 1), random.choice(events))
    elif action == "remove":
        del events[random.randrange(len(events))]
    elif action == "shuffle":
        rest = events[1:]
        random.shuffle(rest)
        events[1:] = rest
    elif action == "foreign":
        other = events_of(box / f"storage/other/{LEDGER}")
        events.insert(random.randrange(1, len(events)), random.choice(other))
    elif action == "first":
        events = events[random.randrange(1, len(events)) :]
    elif action == "many":
        events += [random.choice(events[1:])] * random.choice((2, 50))
    else:
        kept = {0: [random.choice(_PATHS)], random.choice((-1, 10**9)): ["epoch-1"]}
        events.append(
            {
                "event": "checkpoints_kept",
                "at": 5.0,
                "owner": random.choice(TEXTS),
                "checkpoints": kept,
            }
        )
    write_events(path, events)
    commands = catalogue.for_experiment(name, random)
    return Case(f"{name}: {action}", commands, check=possible_numbers)


def possible_numbers(command: Command, shown: str) -> str:
    """Return what is impossible about the numbers that a command shows."""
    if "json" in command.arguments and command.arguments[0] == "leaderboard":
        return _impossible_row(json.loads(shown))
    if "jsonl" in command.arguments:
        return impossible_prediction(shown)
    return ""


def _impossible_row(rows: Any) -> str:
    for row in rows if isinstance(rows, list) else []:
        for key, value in row.items():
            if isinstance(value, float) and value != value:  # NaN
                return f"{key} is not a number: {row}"
            if "accuracy" in key and isinstance(value, (int, float)) and not 0 <= value <= 1:
                return f"{key} is {value}"
    return ""


def impossible_prediction(shown: str) -> str:
    """Return what is impossible about predictions in JSON lines."""
    for line in shown.splitlines():
        row = json.loads(line, parse_constant=lambda name: name)
        values = [value for key, value in row.items() if "prob" in key]
        values = [
            v for value in values for v in (value.values() if isinstance(value, dict) else [value])
        ]
        wrong = [v for v in values if v is not None and not (_is_number(v) and 0 <= v <= 1)]
        if wrong:
            return f"impossible probabilities {wrong[:3]} in {line[:200]}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


LEDGERS = Kind("ledgers", 24, build)
