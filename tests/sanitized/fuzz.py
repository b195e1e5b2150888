"""Run the C++ code with sanitizers on random inputs: `python -m tests.sanitized.fuzz TARGET...`.

An error of a sanitizer ends the process; a difference from the Python implementation raises. Both
name the target and the number of the input, which `--first` runs again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
LIBRARIES = REPOSITORY / "build" / "sanitized"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1", "-O1")
UNAVAILABLE = 3
"""Exit code if the machine has no compiler or no sanitizers."""
FAST = ("tokens", "ngrams", "vectors", "network")
"""Targets that need no torch, whose import takes seconds with a sanitizer."""
TARGETS = (*FAST, "long_texts", "classifier", "loops", "rows")
ONCE = ("long_texts",)
"""Targets with one input, which is large."""


def main() -> None:
    """Run the targets for equal shares of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    arguments = parser.parse_args()
    targets = tuple(arguments.targets) or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"unknown targets {sorted(unknown)}; choose from {list(TARGETS)}")
    if "ASAN_OPTIONS" not in os.environ:
        _start_again()
    _compile_with_sanitizers(targets)
    total = 0
    for target in targets:
        seconds = arguments.seconds / len(targets)
        total += _run(target, seconds, arguments.seed, arguments.first)
    sys.stdout.write(f"sanitized: {total} inputs\n")


def _start_again() -> None:
    """Replace this process by one in which every allocation is checked."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        _give_up("there is no C++ compiler")
    # With the second one, exceptions of libraries that are loaded later can be thrown.
    runtimes = [_runtime(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    if None in runtimes:
        _give_up(f"{compiler} has no AddressSanitizer")
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(filter(None, runtimes)),
        # Python itself does not free everything.
        "ASAN_OPTIONS": "detect_leaks=0,allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "CELLTUNE_CACHE": str(LIBRARIES),
        "CELLTUNE_NATIVE": "1",
        "CXX": compiler,
    }
    command = [sys.executable, "-m", "tests.sanitized.fuzz", *sys.argv[1:]]
    os.chdir(REPOSITORY)
    os.execve(sys.executable, command, environment)  # noqa: S606 (this program)


def _runtime(compiler: str, name: str) -> str | None:
    """Return the path of a library of the compiler, or None."""
    command = [compiler, f"-print-file-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found if Path(found).is_absolute() else None


def _give_up(reason: str) -> None:
    sys.stderr.write(f"The sanitizers are not available: {reason}.\n")
    raise SystemExit(UNAVAILABLE)


def _compile_with_sanitizers(targets: tuple[str, ...]) -> None:
    from dataclasses import replace

    from celltune.data_prep.io import native_build
    from celltune.models.native import library

    native_build.FLAGS = (*native_build.FLAGS, *SANITIZERS)
    if set(targets) <= set(FAST):
        # The other loops take 20 times as long to compile.
        sources = [path for path in library.SOURCES if path.stem == "inference"]
        library.LOOPS = replace(library.LOOPS, sources=sources)


def _run(target: str, seconds: float, seed: int, first: int) -> int:
    """Run a target until the time is over; return the number of inputs."""
    check = _checks()[target]
    _compile(target)
    stop: float | None = None
    number = first
    while stop is None or (time.monotonic() < stop and target not in ONCE):
        # If a sanitizer ends the process, this line is the last one.
        sys.stderr.write(f"\r{target} {number}")
        check(np.random.default_rng((seed, TARGETS.index(target), number)))
        number += 1
        # The first input imports modules.
        stop = stop or time.monotonic() + seconds
    sys.stderr.write(f"\r{target}: {number - first} inputs\n")
    return number - first


def _compile(target: str) -> None:
    """Compile the library of a target."""
    from celltune.data_prep.text import native_tokens
    from celltune.data_prep.vectors import skip_gram
    from celltune.data_prep.wide import native_sums
    from celltune.models.native import library

    modules = {"ngrams": native_sums, "vectors": skip_gram}
    modules |= dict.fromkeys(("tokens", "long_texts"), native_tokens)
    if modules.get(target, library)._library() is None:
        _give_up(f"the library of '{target}' cannot be compiled with {' '.join(SANITIZERS)}")


def _checks() -> dict[str, Callable[[np.random.Generator], None]]:
    from tests.sanitized import arrays, texts

    return {
        "tokens": texts.check_tokens,
        "ngrams": texts.check_ngrams,
        "vectors": arrays.check_vectors,
        "network": arrays.check_network,
        "long_texts": texts.check_long_texts,
        "classifier": arrays.check_classifier,
        "loops": arrays.check_loops,
        "rows": arrays.check_rows,
    }


if __name__ == "__main__":
    main()
