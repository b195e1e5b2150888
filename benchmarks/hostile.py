"""Hostile inputs through every command: no traceback, hang, wrong number or write outside.

::

    python benchmarks/hostile.py                          all kinds, at most 10 minutes on 2 cores
    python benchmarks/hostile.py --quick                  a part of them, less than a minute
    python benchmarks/hostile.py --only ledgers --seed 7  one input again, with all outputs

An input is determined by its kind and its seed. Each is a change of valid files: damaged bytes,
absurd content with valid checksums, special files, hostile texts. Every command and reader that
reads the changed files runs on it, most of them within a worker process, in which Ray is replaced
by a loop that trains one trial after another (`_hostile/standins.py`), and some as processes of
their own. An audit hook and a comparison of all folders find writes outside of those that a command
may change. A command must end with 0, 1 or 2 within 20 seconds, without a traceback or raw control
characters in its output. If it succeeds although content that has a checksum was changed, its
numbers must be the original ones. A full run also executes the C++ code with sanitizers on random
inputs (`tests/sanitized`).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

from _hostile import fixtures
from _hostile.cases import Kind
from _hostile.kinds import KINDS, faulty
from _hostile.pool import Job, Pool, import_everything
from _hostile.runner import Result
from _measure import REPOSITORY, finish

INPUTS, QUICK_INPUTS = 6_000, 250
SECONDS, QUICK_SECONDS = 560.0, 45.0
"""No input is started after this time, which includes that of the preparation."""
SANITIZED_SECONDS = 60
NO_SANITIZERS = 3
"""Exit code of `tests.sanitized.fuzz` on a machine without a compiler or sanitizers."""
MAXIMA = {
    "tracebacks": 0,
    "hangs": 0,
    "writes_outside": 0,
    "wrong_numbers": 0,
    "executions": 0,
    "raw_escapes": 0,
    "secrets": 0,
    "long_messages": 0,
    "memory_errors": 0,
}


def jobs_of(kinds: Sequence[Kind], count: int, first: int) -> Iterator[Job]:
    """Yield the kinds with their seeds, mixed in proportion to their shares."""
    total = sum(kind.share for kind in kinds)
    next_seed = {kind.name: first for kind in kinds}
    due = {kind.name: 0.0 for kind in kinds}
    for _ in range(count):
        for kind in kinds:
            due[kind.name] += kind.share / total
        name = max(due, key=lambda kind: due[kind])
        due[name] -= 1
        yield name, next_seed[name]
        next_seed[name] += 1


def make_fixtures(folder: Path) -> None:
    """Make the original files in another process, so that this one stays small."""
    process = get_context("fork").Process(target=fixtures.make, args=(folder,))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("The original files could not be made.")


def show(result: Result) -> None:
    """Print the failures of an input and how to repeat it."""
    for failure in result.failures:
        print(
            f"{failure.figure}: --only {result.kind} --seed {result.seed} [{result.label}]\n"
            f"  celltune {failure.command!r:.300}\n  {failure.detail[-1500:]}",
            flush=True,
        )


def missed_faults(root: Path, originals: Path) -> list[str]:
    """Run commands that do what no command may do; return those that were not noticed."""
    pool = Pool(faulty.kinds(), root, originals, workers=2, limit_seconds=3.0)
    jobs = ((fault.__name__, 0) for fault, _ in faulty.FAULTS)
    noticed = {
        (result.kind, failure.figure) for result in pool.run(jobs) for failure in result.failures
    }
    expected = ((fault.__name__, figure) for fault, figure in faulty.FAULTS)
    return [f"{name} ({figure})" for name, figure in expected if (name, figure) not in noticed]


def run_sanitized(seconds: int) -> tuple[int, bool]:
    """Run the C++ code with sanitizers; return the number of inputs and whether all were fine."""
    if not seconds:
        return 0, True
    command = [sys.executable, "-m", "tests.sanitized.fuzz", "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode not in (0, NO_SANITIZERS):
        print(f"memory_errors: {' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
    found = re.search(r"sanitized: (\d+) inputs", done.stdout)
    return int(found[1]) if found else 0, done.returncode in (0, NO_SANITIZERS)


class Totals:
    """Sums over all inputs."""

    def __init__(self) -> None:
        self.inputs, self.commands = 0, 0
        self.failures: Counter[str] = Counter(MAXIMA)
        self.codes: Counter[int] = Counter()
        self.times: Counter[str] = Counter()
        self.kinds: dict[str, dict[str, float]] = {}

    def add(self, result: Result) -> None:
        """Add an input; each of its failures counts."""
        self.inputs += 1
        self.commands += result.commands
        self.codes.update(result.codes)
        self.times.update(result.times)  # type: ignore[arg-type]
        self.failures.update(failure.figure for failure in result.failures)
        sums = self.kinds.setdefault(result.kind, {"inputs": 0, "commands": 0, "seconds": 0.0})
        sums["inputs"] += 1
        sums["commands"] += result.commands
        sums["seconds"] = round(sums["seconds"] + result.seconds, 3)


def main() -> None:
    """Run the inputs and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--inputs", type=int, help="number of inputs")
    parser.add_argument("--seconds", type=float, help="start no input after this time")
    parser.add_argument("--only", action="append", choices=[kind.name for kind in KINDS])
    parser.add_argument("--seed", type=int, help="run one input of a kind, or start with this seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fixtures", type=Path, help="keep the original files in this folder")
    parser.add_argument("--self-test", action="store_true", help="first, check the checks")
    options = parser.parse_args()
    started = time.monotonic()
    kinds = [kind for kind in KINDS if not options.only or kind.name in options.only]
    is_full = not (options.quick or options.only or options.inputs is not None or options.seconds)
    default = 1 if options.only and options.seed is not None else INPUTS
    count = QUICK_INPUTS if options.quick else default
    count = count if options.inputs is None else options.inputs
    limit = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    totals = Totals()
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        root = Path(temporary).resolve()
        import_everything()
        originals = options.fixtures.absolute() if options.fixtures else root / "fixtures"
        if not originals.exists():
            make_fixtures(originals)
        prepared = time.monotonic() - started
        print(f"The original files are ready after {prepared:.0f} s.", flush=True)
        if options.self_test and (missed := missed_faults(root, originals)):
            raise SystemExit(f"Not noticed: {', '.join(missed)}.")
        sanitized, is_sound = run_sanitized(SANITIZED_SECONDS if is_full else 0)
        totals.failures["memory_errors"] += not is_sound
        pool = Pool(kinds, root, originals, options.workers)
        jobs = jobs_of(kinds, count, options.seed or 0)
        for result in pool.run(jobs, lambda: time.monotonic() - started > limit):
            totals.add(result)
            show(result)
            if options.seed is not None:
                print(result)
    figures = {
        "inputs": totals.inputs,
        **totals.failures,
        "peak_mb": pool.peak_mb,
        "commands": totals.commands,
        "sanitized_inputs": sanitized,
    }
    details = {
        "seconds_by_command": {
            name: round(total, 1) for name, total in totals.times.most_common(20)
        },
        "kinds": totals.kinds,
        "exit_codes": {str(code): number for code, number in sorted(totals.codes.items())},
        "seconds": round(time.monotonic() - started, 1),
        "seconds_of_preparation": round(prepared, 1),
    }
    print(details)
    finish("hostile", figures, details, keep=is_full)
    sys.exit(any(totals.failures[name] > most for name, most in MAXIMA.items()))


if __name__ == "__main__":
    main()
