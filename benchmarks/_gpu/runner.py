"""The command of `benchmarks/gpu.py`: runs sections one after the other, each in its own process.

A section in its own process can neither lose the CUDA context of the others nor block them: a
process that exceeds its time is ended, and the results that it has written are used.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from . import cells, compiling, epoch, numerics, packed, search, tables
from .common import Deadline, Options, Report, machine, write_json

RESULTS = Path(__file__).resolve().parents[1] / "results"
GRACE_SECONDS = 20.0
"""Time that a section gets to finish its current measurement."""
START_SECONDS = 6.0
"""Time of a new process for imports and the CUDA context, which a section does not measure."""

Section = Callable[[Options, Deadline, Report], None]
SECTIONS: dict[str, Section] = {
    "numerics": numerics.measure,
    "cells": cells.measure,
    "epoch": epoch.measure,
    "search": search.measure,
    "packed": packed.measure,
}
"""The sections in order of importance; their numbers start at 1."""
WEIGHTS = {"numerics": 2.5, "cells": 3.0, "epoch": 2.0, "search": 5.0, "packed": 3.0}
"""Shares of the time. What a section does not use is divided among the later ones."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.py", description="Measure one GPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all sections")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="numbers or names")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--imdb", type=Path, help="csv or csv.gz with the columns label and text")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--cache", type=Path, default=Path(".gpu-cache"), help="prepared data")
    parser.add_argument("--device", default="cuda", help="cpu: try the program out, with --quick")
    parser.add_argument("--tables", type=Path, help="print the JSON files of a folder as Markdown")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes is {options.minutes}. It must be above 0, such as 8.")
    if options.imdb is not None and not options.imdb.is_file():
        parser.error(
            f"--imdb is {options.imdb}, which is no file. Name a csv or csv.gz file with the "
            "columns label and text, or omit the option to use synthetic documents."
        )
    try:
        options.names = section_names(options.sections)
    except ValueError as error:
        parser.error(str(error))
    return options


def section_names(text: str) -> list[str]:
    """Return the names of the sections in a list of numbers or names.

    Raises:
        ValueError: there is no such section.
    """
    known = list(SECTIONS)
    names = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if item in known:
            names.append(item)
        elif item.isdigit() and 1 <= int(item) <= len(known):
            names.append(known[int(item) - 1])
        else:
            listed = ", ".join(f"{number} ({name})" for number, name in enumerate(known, start=1))
            raise ValueError(f"--sections contains {item!r}. The sections are {listed}.")
    return names


def run_section(name: str, options: Options, seconds: float, out: Path) -> Report:
    """Run a section in this process and write its file, also while it runs."""
    facts = machine(options.device)
    started = time.monotonic()

    def publish(report: Report) -> None:
        record = {
            "benchmark": f"gpu-{name}",
            **report.as_json(),
            "machine": facts,
            "quick": options.quick,
            "seconds": round(time.monotonic() - started, 1),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_json(result_file(out, name), record)

    report = Report(publish=publish)
    deadline = Deadline.after(seconds)
    report.attempt(name, lambda: SECTIONS[name](options, deadline, report))
    report.save()
    return report


def result_file(out: Path, name: str) -> Path:
    """Return the file with the results of a section."""
    return out / f"gpu-{name}.json"


def allot(names: Sequence[str], seconds: float) -> float:
    """Return the seconds of the first of the remaining sections."""
    return seconds * WEIGHTS[names[0]] / sum(WEIGHTS[name] for name in names)


def run_in_process(name: str, arguments: Sequence[str], seconds: float, out: Path) -> str | None:
    """Run a section in a new process; return why it ended early, or None."""
    result_file(out, name).unlink(missing_ok=True)
    script = Path(__file__).resolve().parents[1] / "gpu.py"
    command = [sys.executable, str(script), *arguments, "--child", f"{name}:{seconds:.1f}"]
    limit = START_SECONDS + seconds + GRACE_SECONDS
    try:
        code = subprocess.run(command, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"section {name} was ended after {limit:.0f} s"
    return None if code == 0 else f"section {name} ended with exit code {code}"


def collect(names: Sequence[str], out: Path) -> tuple[dict[str, float], list[str], list[str]]:
    """Return the figures of all sections, what they left out, and their errors."""
    figures: dict[str, float] = {}
    left_out: list[str] = []
    errors: list[str] = []
    for name in names:
        if not result_file(out, name).exists():
            left_out.append(f"section {name}")
            continue
        record: dict[str, Any] = json.loads(result_file(out, name).read_text())
        figures.update(record["figures"])
        left_out += record["left_out"]
        errors += record["errors"]
    return figures, left_out, errors


def no_gpu() -> str | None:
    """Return why this machine cannot run the benchmark, or None."""
    if torch.cuda.is_available():
        return None
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return (
        "benchmarks/gpu.py needs an NVIDIA GPU with its driver and a CUDA build of torch, but "
        f"torch {torch.__version__} ({build}) finds none. On a machine with a GPU, install such a "
        "build: the selector on the PyTorch website shows the command."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = parse(given)
    if parsed.tables is not None:
        try:
            print(tables.markdown(parsed.tables))
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    problem = no_gpu() if parsed.device == "cuda" else None
    if problem is not None:
        print(problem, file=sys.stderr)
        return 2
    if parsed.compile:
        os.nice(10)  # The section uses the other processors meanwhile, such as to start Ray.
        compiling.run_jobs(parsed.compile, parsed.device)
        return 0
    options = Options(torch.device(parsed.device), parsed.quick, parsed.imdb, parsed.cache)
    if parsed.child:
        name, seconds = parsed.child.rsplit(":", 1)
        run_section(name, options, float(seconds), parsed.out)
        return 0
    print(", ".join(f"{key} {value}" for key, value in machine(options.device).items()))
    return run_all(parsed, given)


def run_all(parsed: argparse.Namespace, given: Sequence[str]) -> int:
    """Run all sections within the time and print their figures."""
    deadline = Deadline.after(60 * parsed.minutes)
    early: list[str] = []
    for number, name in enumerate(parsed.names):
        remaining = parsed.names[number:]
        seconds = allot(remaining, deadline.left - START_SECONDS * len(remaining))
        if seconds <= 0:
            early.append(f"section {name} got no time")
            continue
        print(f"== {name} ({seconds:.0f} s)", flush=True)
        reason = run_in_process(name, given, seconds, parsed.out)
        if reason is not None:
            print(f"  {reason}", flush=True)
            early.append(reason)
    figures, left_out, errors = collect(parsed.names, parsed.out)
    for line in (*early, *left_out):
        print(f"left out: {line}")
    figures["failures"] = len(errors) + len(early)
    print(json.dumps({"benchmark": "gpu", "figures": figures}))
    return 0
