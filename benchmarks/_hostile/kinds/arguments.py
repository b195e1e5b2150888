"""What users type: names, storages, tracking URIs, filters, numbers, formats and output paths."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from _hostile import catalogue, special
from _hostile.box import Box
from _hostile.cases import ORIGINAL, SECRET, Case, Command, Kind
from _hostile.kinds.configs import typed
from _hostile.mutations import NUMBERS, TEXTS
from celltune.search.ledger.fields import NAME

_NAMES = (
    *TEXTS,
    "missing",
    "smal",
    "small/",
    "./small",
    "small/../other",
    "../storage/small",
    "SMALL",
    "small.yaml",
    "small\n",
    "-",
    "a" * 101,
    "a" * 300,
    "CON",
    "experiment.yaml",
)
_STORAGES = (
    *TEXTS,
    "~nosuchuser",
    "~nosuchuser/x",
    "FILE://host/y",
    "file://host/x",
    "http://127.0.0.1:9/x",
    "ftp://host/x",
    f"postgresql://user:{SECRET}@host/x",
    f"HTTP://user:{SECRET}@host/x",
    f"S3://key:{SECRET}@host/x",
    "s3://",
    "s3:",
    "s3:///x",
    "://",
    "a://b",
    "../outside/victim.txt",
    "../outside/victim",
    "../storage/small",
    "../storage/small/ledger.jsonl",
    "../storage/small/trials",
    "/proc/self",
    "/dev/null",
    "/dev/full",
    "/dev/zero",
    "x" * 5_000,
    "a/" * 2_500,
    ".",
    "/",
    "../files/fifo",
    "../files/loop",
)
_TRACKING = (
    f"http://user:{SECRET}@host",
    f"HTTP://user:{SECRET}@host",
    f"hTTps://user:{SECRET}@host/x",
    f"postgresql://user:{SECRET}@host/x",
    f"postgresql+psycopg2://user:{SECRET}@host/x",
    f"mysql://user:{SECRET}@host",
    f"databricks://:{SECRET}@host",
    f" http://user:{SECRET}@host",
    f"http:/user:{SECRET}@host",
    f"http://host/?password={SECRET}",
    f"http://user:{SECRET}%40@host",
    f"http://user:a/{SECRET}@host",
    f"'http://user:{SECRET}@host'",
)
_FILTERS = (
    "__import__('os').system('touch ../outside/executed')",
    "().__class__.__bases__[0].__subclasses__()",
    "cell == 'gru' or " * 2_000 + "cell == 'gru'",
    "(" * 5_000 + "1" + ")" * 5_000,
    "9**9**9**9",
    "'a' * 10**10",
    "[x for x in (1,)]",
    "lambda: 1",
    "open('/etc/passwd')",
    "hidden_size >= 'a'",
    "trial == " + "9" * 6_000,
    "1 if True else 0",
    "cell == 'gru'; import os",
    "cell == '\x1b[31m'",
    "f'{cell}'",
    "cell.upper()",
    "valid_accuracy > 1e400",
    "not not not cell",
    "-" * 3_000 + "1 > 0",
    "cell == 'gru'\x00",
    "é == 1",
    "rank < 3 < 4 < 5",
    "cell in ('gru',)",
    "1 / 0 == 1",
    "@ == 1",
)
_OUTPUTS = (
    "../outside/victim.txt",
    "../outside/victim",
    "../files/missing/x.html",
    "/dev/full",
    "/dev/null/x",
    "/dev/null",
    "../files/fifo",
    "../files/loop",
    "../files/link.svg",
    "../files/dangling.csv",
    ".",
    "..",
    "/",
    "",
    "x" * 300 + ".csv",
    "../storage/small/ledger.jsonl",
    "../storage/small",
    "../out/\x1b[31m.csv",
    "../out/new\nline.html",
    "../out/a.svg/b.svg",
    "../out/x.unknown",
    "/proc/self/x.csv",
    "~nosuchuser/x.csv",
)


_STORED = (("export-study", "small"), ("list",), ("status", "small"))


def build(box: Box, random: Random) -> Case:
    """Choose hostile arguments."""
    os.mkfifo(box / "files/fifo")
    (box / "files/loop").symlink_to("loop")
    (box / "files/link.svg").symlink_to(box / "outside/victim.txt")
    (box / "files/dangling.csv").symlink_to(box / "outside/created")
    strategies = (_names, _storages, _tracking, _filters, _outputs, _numbers, _several)
    return random.choices(strategies, (3, 4, 2, 3, 4, 3, 1))[0](box, random)


def _names(box: Box, random: Random) -> Case:
    name = typed(random.choice(_NAMES))
    commands = [
        Command(("status", "--", name)),
        Command(("leaderboard", "--", name)),
        Command(("leaderboard", "small", "--metric", name)),
        Command(("resume", "--", name)),
        Command(("stop", "--", name)),
        Command(("evaluate", "--", name)),
        Command(("ensemble", "--", name, "small")),
        Command(("predict", "--", name, catalogue.TEXT)),
        Command(("export", "-o", "../out/x", "--", name)),
        Command(("report", "--", name)),
        Command(("graph", "-o", "../out/x.svg", "--", name)),
        Command(("launch", str(_config(box)), "--dry-run", f"--name={name}")),
        Command(("launch", str(_config(box)), "--dry-run", f"--from={name}")),
        Command(("validate", "--", name)),
        Command(("init", "-o", "../out/x.yaml", "--", name)),
        Command(("compare", "--only", name, "--", str(_config(box)))),
        Command(("cache", "clear", "--", name)),
        *(Command((*words, name)) for words in _CHANGING if not NAME.fullmatch(name)),
        Command(
            ("copy", "--", "small", name),
            writes=("storage/small", f"storage/{name}"),
            named=f"../storage/{name}",
        ),
        Command(("logs", "--", name)),
        Command(("du", "--", name)),
        Command(("config", "explain", "--", name)),
        Command(
            (
                "export-study",
                "small",
                "--storage",
                f"sqlite:///../out/{len(name)}.db",
                f"--study-name={name}",
            )
        ),
        Command((name,)),
    ]
    return Case(f"name {name!r:.60}", random.sample(commands, 7))


_CHANGING = (("delete", "--yes", "--"), ("prune", "--yes", "--"), ("logs", "--trial", "0", "--"))
"""Commands that would change an experiment; another command may have created one of the name."""


def _config(box: Box) -> Path:
    path = box / "files/config.yaml"
    if not path.exists():
        path.write_bytes((box.fixtures / "small.yaml").read_bytes())
    return path


def _storages(box: Box, random: Random) -> Case:
    address = typed(random.choice(_STORAGES)) or "."
    config = str(_config(box))
    commands = [
        Command(("list", "--storage", address)),
        Command(("status", "small", "--storage", address)),
        Command(("launch", config, "--storage", address), writes=("cwd",), named=address),
        Command(("launch", config, "--storage", address, "--dry-run"), named=address),
        Command(("leaderboard", "small", "--storage", address)),
        Command(("resume", "small", "--storage", address), writes=("cwd",)),
        Command(("export-study", "small", "--storage", address)),
        Command(("predict", "small", catalogue.TEXT, "--storage", address)),
        Command(("du", "--storage", address)),
        Command(("logs", "small", "--storage", address)),
        Command(("delete", "small", "--yes", "--storage", address), writes=("cwd",), named=address),
        Command(
            ("copy", "small", catalogue.COPY, "--to", address),
            writes=("cwd", "storage/small"),
            named=address,
        ),
    ]
    # A launch may create the folder that it is given.
    inside = address.startswith(("../storage", "../outside", "/", "~", "file:", "FILE:", "."))
    chosen = [c for c in commands if not (c.writes and inside and not _is_file(box, address))]
    return Case(f"storage {address!r:.60}", random.sample(chosen, min(4, len(chosen))))


def _is_file(box: Box, address: str) -> bool:
    try:
        return (box / "cwd" / address).is_file()
    except ValueError:
        return False


def _tracking(box: Box, random: Random) -> Case:
    uri = typed(random.choice(_TRACKING))
    config = str(_config(box))
    key = random.choice(("tracking.mlflow", "tracking.mlflow", "tracking.tensorboard"))
    commands = [
        Command(("validate", config, "--set", f"{key}={uri}")),
        Command(("launch", config, "--dry-run", "--set", f"{key}={uri}")),
        *(Command((*words, "--storage", uri)) for words in _STORED if "://" in uri),
        Command(("launch", config, "--dry-run", "--address", uri)),
    ]
    return Case(f"{key} {uri!r:.60}", commands)


def _filters(box: Box, random: Random) -> Case:  # noqa: ARG001
    text = typed(random.choice((*_FILTERS, *TEXTS)))
    column = typed(random.choice(TEXTS))
    commands = [
        Command(("leaderboard", "small", f"--where={text}")),
        Command(("leaderboard", "small", "other", f"--where={text}", "--format", "csv")),
        Command(("leaderboard", "small", f"--best-per={column}")),
        Command(("leaderboard", "small", f"--sort={column}")),
        Command(("leaderboard", "small", f"--format={column}")),
        Command(("leaderboard", "small", f"--metric={column}")),
    ]
    label = f"filter {text!r:.60}, column {column!r:.40}"
    return Case(label, random.sample(commands, 4))


def _outputs(box: Box, random: Random) -> Case:  # noqa: ARG001
    output = typed(random.choice(_OUTPUTS))
    force = random.choice(((), ("--overwrite",)))
    commands = [
        Command(("leaderboard", "small", f"--output={output}"), named=output),
        Command(("report", "small", f"--output={output}"), named=output),
        Command(("graph", "small", f"--output={output}"), named=output),
        Command(("export", "small", f"--output={output}"), named=output),
        Command(("export", "small", "--baseline", f"--output={output}"), named=output),
        Command(("export-study", "small", "--storage", f"sqlite:///{output}"), named=output),
    ]
    # What a user asks to replace may be replaced.
    if force and not output.startswith(("../outside", "../storage", "../files", "/dev/null")):
        commands[:3] = [
            Command((*c.arguments, *force), writes=("cwd",), named=output) for c in commands[:3]
        ]
    return Case(f"output {output!r:.60}", random.sample(commands, 3), (ORIGINAL,))


def _numbers(box: Box, random: Random) -> Case:
    number = typed(str(random.choice((*NUMBERS, "+1", "1e3", "٣", "1_0", "0x1", "--1", "", "1.0"))))
    number = random.choice((number, typed(random.choice(TEXTS))))
    config = str(_config(box))
    # Without `resume --trials 2147483648`: it would be obeyed.
    commands = [
        Command(("leaderboard", "small", f"--top={number}")),
        Command(("predict", "small", catalogue.TEXT, f"--trial={number}")),
        Command(("export", "small", "-o", "../out/x", f"--trial={number}")),
        Command(("graph", "small", "-o", "../out/x.svg", f"--trial={number}")),
        Command(("resume", "small", f"--target={number}"), writes=("storage/small",)),
        Command(("resume", "small", f"--patience={number}"), writes=("storage/small",)),
        Command(("resume", "small", f"--time-budget={number}"), writes=("storage/small",)),
        Command(("evaluate", "small", f"--on={number}")),
        Command(("ensemble", "small", f"--trials-considered={number}"), writes=("storage/small",)),
        Command(("compare", config, f"--scale={number}", "--only", "missing")),
        Command(("launch", config, "--dry-run", f"--time-budget={number}")),
        Command(("predict", "small", catalogue.TEXT, f"--format={number}")),
    ]
    return Case(f"number {number!r:.60}", random.sample(commands, 4))


def _several(box: Box, random: Random) -> Case:
    """Combine options at random."""
    words = (
        "list",
        "status",
        "leaderboard",
        "predict",
        "export",
        "graph",
        "cache",
        "report",
        "stop",
        "config",
        "du",
        "logs",
        "prune",
    )
    options = (
        "--storage",
        "--format",
        "--trial",
        "-o",
        "--where",
        "--top",
        "--file",
        "--help",
        "--",
    )
    commands = []
    for _ in range(6):
        parts = [random.choice(words)]
        parts += [
            typed(random.choice((*options, "small", random.choice(TEXTS))))
            for _ in range(random.randrange(5))
        ]
        commands.append(Command(tuple(parts), writes=("storage/small", "cwd")))
    special.replace(box / "files/other.yaml", random.choice(special.ACTIONS), box)
    return Case(f"random options {commands[0].arguments!r:.80}", commands)


ARGUMENTS = Kind("arguments", 10, build)
