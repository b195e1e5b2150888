"""Run hostile inputs in a box, and collect what went wrong."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from _hostile import standins
from _hostile.box import Box, names_in
from _hostile.cases import ORIGINAL, SECRET, Case, Command, Kind
from _hostile.guard import Guard
from _hostile.running import Outcome, run_here, run_process

LONGEST_ERROR = 12_000
"""Bytes of an error message, which may list many problems but does not repeat its input."""

OUTSIDE = "outside/executed"
"""A file that code in a hostile input creates when it is executed."""


@dataclass(frozen=True)
class Failure:
    """Something that must not happen.

    Attributes:
        figure: the figure that counts it.
        command: what was typed.
        detail: what happened.
    """

    figure: str
    command: str
    detail: str


@dataclass
class Result:
    """What the commands of one input did."""

    kind: str
    seed: int
    label: str = ""
    commands: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    """CPU seconds by name of the command."""
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0
    """Largest resident memory of this process and its children so far."""


class Runner:
    """Runs inputs in a box of its own."""

    def __init__(self, root: Path, fixtures: Path) -> None:
        """Copy the fixtures; from now on, the process works in the box only."""
        self._box = Box(root, fixtures)
        self._box.enter()
        standins.install()
        self._guard = Guard()
        self._expected: dict[tuple[str, Command, bool], Outcome] = {}

    def run(self, kind: Kind, seed: int, begin: Callable[[tuple[str, bool]], None]) -> Result:
        """Run all commands of an input.

        Args:
            kind: the kind.
            seed: determines the input.
            begin: is called before each command with its text and whether it is a process.
        """
        result = Result(kind.name, seed)
        started = time.perf_counter()
        self._box.restore()
        case = kind.build(self._box, Random(f"{kind.name} {seed}"))  # noqa: S311 (not for secrets)
        result.label = case.label
        for command in case.commands:
            shown = " ".join(command.arguments)
            begin((shown, command.own_process))
            before = time.process_time()
            outcome, failures = self._observed(command, on_terminal=seed % 2 == 1)
            name = command.arguments[0] if command.arguments else ""
            taken = time.process_time() - before
            result.times[name] = result.times.get(name, 0.0) + taken
            result.commands += 1
            result.codes[outcome.code] = result.codes.get(outcome.code, 0) + 1
            failures += self._wrong_numbers(case, command, outcome, on_terminal=seed % 2 == 1)
            result.failures += [Failure(figure, shown, detail) for figure, detail in failures]
        usages = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        result.peak_mb = max(usage.ru_maxrss for usage in usages) / 1024
        result.seconds = time.perf_counter() - started
        return result

    def _observed(
        self, command: Command, on_terminal: bool
    ) -> tuple[Outcome, list[tuple[str, str]]]:
        box, guard = self._box, self._guard
        before = set(box.changed())
        unchanged = {path: names_in(box / path) for path in ("storage", "outside", "cwd")}
        own = tuple(box / path for path in command.writes)
        if command.own_process:
            outcome = run_process(command.arguments, command.stdin, box.environment(), box / "cwd")
        else:
            named = box / "cwd" / os.path.expanduser(command.named)  # noqa: PTH111 (never raises)
            around = (named, named.parent) if command.named else ()
            if "--dry-run" in command.arguments:  # It tries whether the storage can be written.
                around = (*around, box / "storage")
            guard.start((*box.everyone_may_write(), *own, *around))
            try:
                outcome = run_here(command.arguments, command.stdin, on_terminal)
            finally:
                guard.stop()
        is_exact = command.is_for_programs and (command.own_process or not on_terminal)
        failures = _failures_of(outcome, is_exact)
        if not command.own_process:
            failures += [("writes_outside", text) for text in guard.writes]
            failures += [("executions", text) for text in guard.executions]
        if (box / OUTSIDE).exists():
            failures.append(("executions", "code in the input was executed"))
            (box / OUTSIDE).unlink()
        new = set(box.changed()) - before
        allowed = {*command.writes, "cache"}
        failures += [
            ("writes_outside", f"{piece} changed")
            for piece in new
            if not any(piece == path or piece.startswith(f"{path}/") for path in allowed)
        ]
        failures += [
            ("writes_outside", f"{path} has other entries")
            for path, names in unchanged.items()
            if path not in allowed
            and any(f"{path}/{name}" not in allowed for name in {*names} ^ {*names_in(box / path)})
        ]
        return outcome, failures

    def _wrong_numbers(
        self, case: Case, command: Command, outcome: Outcome, on_terminal: bool
    ) -> list[tuple[str, str]]:
        if outcome.code != 0:
            return []
        if case.check is not None and (problem := case.check(command, outcome.text)):
            return [("wrong_numbers", problem)]
        if case.same_as is None or not command.numbers:
            return []
        on_terminal &= not command.own_process
        if any(self._shows(state, case, command, outcome, on_terminal) for state in case.same_as):
            return []
        return [("wrong_numbers", f"other numbers than the original: {outcome.text[:600]}")]

    def _shows(
        self, state: str, case: Case, command: Command, outcome: Outcome, on_terminal: bool
    ) -> bool:
        key = (state, command, on_terminal)
        if key not in self._expected:
            self._expected[key] = self._outcome_in(state, case, command, on_terminal)
        expected = self._expected[key]
        return expected.code == 0 and expected.stdout == outcome.stdout

    def _outcome_in(self, state: str, case: Case, command: Command, on_terminal: bool) -> Outcome:
        with self._box.aside():
            if state != ORIGINAL:
                case.states[state](self._box)
            return run_here(command.arguments, command.stdin, on_terminal)


def _failures_of(outcome: Outcome, is_exact: bool) -> list[tuple[str, str]]:
    failures = []
    if outcome.hung:
        failures.append(("hangs", "no end within the limit"))
    elif problem := outcome.problem:
        failures.append(("tracebacks", problem))
    if raw := outcome.raw_characters(stdout=not is_exact):
        failures.append(("raw_escapes", f"{len(raw)}: {', '.join(raw[:3])}"))
    if SECRET.encode() in outcome.stdout + outcome.stderr:
        failures.append(("secrets", "a password is shown"))
    if len(outcome.stderr) > LONGEST_ERROR:
        failures.append(("long_messages", f"{len(outcome.stderr):,} bytes of errors"))
    return failures
