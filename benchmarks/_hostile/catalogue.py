"""The commands that read experiments, models and configs."""

from __future__ import annotations

from random import Random

from _hostile.cases import Command

TEXT = "a wonderful film, not boring at all"
"""An innocent review, whose prediction is known."""
COPY = "copy"
"""Name of a copy of an experiment."""


def list_command() -> Command:
    """Return `celltune list`."""
    return Command(("list",))


def reading(name: str) -> list[Command]:
    """Return the commands that read an experiment and change nothing in it."""
    return [
        list_command(),
        Command(("status", name), numbers=True),
        Command(("leaderboard", name), numbers=True),
        Command(("leaderboard", name, "--format", "json"), numbers=True),
        Command(("leaderboard", name, "--format", "csv"), numbers=True),
        Command(("leaderboard", name, "--format", "md"), numbers=True),
        Command(("leaderboard", name, "other", "--format", "json"), numbers=True),
        Command(("leaderboard", name, "-o", "../out/board.parquet")),
        Command(("status", name, "--json")),
        Command(("logs", name)),
        Command(("du", name)),
        Command(("report", name, "-o", "../out/page.html")),
        Command(("export-study", name, "--storage", "sqlite:///../out/study.db")),
    ]


def using(name: str) -> list[Command]:
    """Return the commands that load models of an experiment."""
    return [
        Command(("predict", name, TEXT, "--format", "jsonl"), numbers=True),
        Command(("predict", name, TEXT, "--ensemble", "--format", "jsonl"), numbers=True),
        Command(("graph", name, "-o", "../out/graph.svg")),
        Command(("export", name, "-o", "../out/trial")),
        Command(("export", name, "--ensemble", "-o", "../out/ensemble")),
        Command(("export", name, "--baseline", "-o", "../out/linear")),
    ]


def writing(name: str) -> list[Command]:
    """Return the commands that continue an experiment."""
    own = (f"storage/{name}",)
    return [
        Command(("stop", name), writes=own),
        Command(
            ("evaluate", name, "--top", "1", "--seeds", "1", "--no-baselines", "--format", "json"),
            writes=own,
        ),
        Command(("ensemble", name, "other"), writes=(*own, "storage/other")),
        Command(("resume", name), writes=own),
        Command(("resume", name, "--trials", "+1", "--retry-failed"), writes=own),
        # It locks the experiment.
        Command(("copy", name, COPY), writes=(*own, f"storage/{COPY}"), named=f"../storage/{COPY}"),
        Command(("prune", name, "--keep", "1", "--yes"), writes=own),
        # An ensemble of the experiment kept checkpoints of the other one.
        Command(
            ("delete", name, "--yes", "--data"),
            writes=(*own, "storage/other"),
            named=f"../storage/{name}",
        ),
        Command(("status", name)),
    ]


def for_bundle(path: str) -> list[Command]:
    """Return the commands that read an exported model."""
    return [
        Command(("predict", path, TEXT, "--format", "jsonl"), numbers=True),
        Command(("predict", path, TEXT), numbers=True),
        Command(("predict", path, TEXT, "--explain", "--format", "csv"), numbers=True),
        Command(
            ("predict", path, "-", "--format", "jsonl"),
            stdin=f"{TEXT}\nbad and boring\n".encode(),
            numbers=True,
        ),
        Command(("graph", path, "-o", "../out/graph.svg")),
    ]


def for_experiment(name: str, random: Random, *, first: str = "status") -> list[Command]:
    """Return the commands of an input that changes an experiment.

    Every input runs through the light commands. The others, which take longer, take turns; commands
    that write come last.

    Args:
        name: the experiment.
        random: chooses the commands.
        first: name of a command that runs in any case.
    """
    readers, users, writers = reading(name), using(name), writing(name)
    light = {"status", first}
    chosen = [random.choice(group) for group in (readers, users, writers)]
    return [
        command
        for command in (*readers, *users, *writers)
        if command in chosen or command.arguments[0] in light or command == readers[3]
    ]
