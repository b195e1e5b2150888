"""Configs: YAML that explodes, refers to itself or cannot be built, and mutated values."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import yaml

from _hostile import special
from _hostile.box import Box
from _hostile.cases import Case, Command, Kind
from _hostile.mutations import NUMBERS, TEXTS, mutated_bytes, mutated_json

_CONFIGS = Path(__file__).resolve().parents[3] / "configs"
_SHIPPED = ("sample.yaml", "csv.yaml", "imdb.yaml", "amazon.yaml", "imdb-gpu.yaml")
_SMALL = ("--set", "data.reviews=60", "--set", "budget.trials=2", "--set", "budget.max_epochs=1")


def _bombs() -> dict[str, str]:
    levels = "\n".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 12))
    maps = "\n".join(f"k{i}: &k{i} {{a: *k{i - 1}, b: *k{i - 1}}}" for i in range(1, 30))
    merges = "\n".join(f"k{i}: &k{i} {{<<: [*k{i - 1}, *k{i - 1}], n{i}: 1}}" for i in range(1, 25))
    return {
        "billion laughs": f"k0: &k0 [lol]\n{levels}\nname: *k11\n",
        "doubling maps": f"k0: &k0 {{x: 1}}\n{maps}\nspace: *k29\n",
        "doubling merges": f"k0: &k0 {{x: 1}}\n{merges}\ndata: *k24\n",
        "itself": "name: &a [*a]\n",
        "map of itself": "&a\nname: x\ndata: *a\n",
        "key of itself": "? &a [*a]\n: 1\n",
        "merge of itself": "data: &a\n  <<: *a\n",
        "impossible date": "name: 2020-99-99\n",
        "impossible time": "name: 2020-01-01 99:99:99\n",
        "binary": "name: !!binary '****'\n",
        "set": "name: !!set {a, b}\n",
        "ordered map": "name: !!omap [a: 1]\n",
        "pairs": "data: !!pairs [a: 1, a: 2]\n",
        "python object": "name: !!python/object/apply:os.system ['touch ../outside/executed']\n",
        "python name": "name: !!python/name:os.system\n",
        "unknown tag": "name: !nothing x\n",
        "integer of 10,000 digits": f"seed: {'9' * 10_000}\n",
        "sexagesimal": "seed: 190:20:30\nname: 1:2\n",
        "hexadecimal": f"seed: 0x{'f' * 5000}\n",
        "octal": "seed: 0o777\nname: 0777\n",
        "long scalar": f"name: {'x' * 10_000_000}\n",
        "long unknown key": f"{'k' * 1_000_000}: 1\n",
        "long list": f"classes: [{', '.join(['a'] * 200_000)}]\n",
        "deep lists": f"name: {'[' * 5_000}{']' * 5_000}\n",
        "deep maps": "".join(f"{' ' * i}a:\n" for i in range(2_000)),
        "not closed": "name: [a, b\n",
        "tabs": "name:\t- a\n\t- b\n",
        "control characters": "name: \x07\x1b[31m\n",
        "quoted escapes": 'name: "\\e[31mred\\e[0m"\n"\\e]0;title\\a": 1\n',
        "several documents": "name: a\n---\nname: b\n",
        "empty document": "---\n...\n",
        "only a comment": "# nothing\n",
        "list": "- a\n- b\n",
        "text": "name\n",
        "key of a list": "[a, b]: 1\n",
        "key of null": "null: 1\nname: x\n",
        "key of a map": "{a: 1}: 2\n",
        "key of a number": "1: 2\n1.5: 3\n",
        "many unknown keys": "".join(f"key{i}: {i}\n" for i in range(20_000)),
        "null everywhere": "name: null\ndata: null\nspace: null\nbudget: null\n",
        "YAML directive": "%YAML 9.9\n---\nname: x\n",
        "huge float": "seed: 1e999\n",
        "not a number": "seed: .nan\nbudget: {target: .nan, trials: .inf}\n",
    }


_BOMBS = _bombs()
_KEYS = (
    "name",
    "seed",
    "metric",
    "data",
    "data.path",
    "data.source",
    "data.classes",
    "data.reviews",
    "data.vectors.path",
    "data.tokenizer",
    "space.cell",
    "space.hidden_size",
    "space.learning_rate",
    "space",
    "budget.time",
    "budget.trials",
    "sampler",
    "sampler.name",
    "early_stopping.name",
    "tracking.tensorboard",
    "tracking.mlflow",
    "resources.cpus_per_trial",
    "first_trials",
    "storage",
    "a.b.c.d",
)


def build(box: Box, random: Random) -> Case:
    """Write a config, or choose hostile overrides."""
    strategies = (_bomb, _bytes, _values, _override, _special, _encoding)
    return random.choices(strategies, (3, 3, 6, 5, 1, 1))[0](box, random)


def _commands(*overrides: str) -> list[Command]:
    settings = [part for override in overrides for part in ("--set", override)]
    config = "../files/config.yaml"
    return [
        Command(("validate", config, *_SMALL, *settings)),
        Command(("launch", config, "--name", "new", "--dry-run", *_SMALL, *settings)),
        Command(("graph", config, "-o", "../out/graph.svg", *settings)),
    ]


def _bomb(box: Box, random: Random) -> Case:
    name = random.choice(list(_BOMBS))
    text = _BOMBS[name]
    if random.random() < 0.3:
        content, label = mutated_bytes(text.encode(), random)
    else:
        content, label = text.encode(), ""
    sample = (_CONFIGS / "sample.yaml").read_bytes().replace(b"name: sample\n", b"")
    if random.random() < 0.4:
        content += b"\n" + sample
    (box / "files/config.yaml").write_bytes(content)
    return Case(f"{name} {label}", _commands())


def _bytes(box: Box, random: Random) -> Case:
    name = random.choice(_SHIPPED)
    content = (_CONFIGS / name).read_bytes()
    labels = []
    for _ in range(random.choice((1, 1, 3))):
        content, label = mutated_bytes(content, random)
        labels.append(label)
    (box / "files/config.yaml").write_bytes(content)
    return Case(f"{name}: {'; '.join(labels)}", _commands())


def _values(box: Box, random: Random) -> Case:
    name = random.choice(_SHIPPED)
    config: Any = yaml.safe_load((_CONFIGS / name).read_text())
    config, label = mutated_json(config, random, random.choice((1, 1, 2, 4)))
    (box / "files/config.yaml").write_text(as_yaml(config), "utf-8", errors="surrogatepass")
    return Case(f"{name}: {label}", _commands())


def _override(box: Box, random: Random) -> Case:
    (box / "files/config.yaml").write_bytes((_CONFIGS / "sample.yaml").read_bytes())
    overrides = []
    for _ in range(random.choice((1, 1, 3))):
        text = random.choice(
            (random.choice(TEXTS), str(random.choice(NUMBERS)), random.choice(_FORMS))
        )
        key = random.choice((*_KEYS, random.choice(TEXTS)))
        text = _BOMBS["billion laughs"] if random.random() < 0.02 else text
        overrides.append(typed(f"{key}={text}" if random.random() < 0.95 else text))
    return Case(f"--set {overrides!r:.150}", _commands(*overrides))


_FORMS = (
    "[1, 2, 3]",
    "{low: 1, high: 0}",
    "{low: 0, high: 1, log: true}",
    "{low: .nan, high: 1}",
    "{low: 1, high: 1e400}",
    "&a [*a]",
    "*a",
    "2020-99-99",
    "!!python/object/apply:os.system ['touch ../outside/executed']",
    "[" * 3_000,
    "{a: {b: {c: {}}}}",
    "../../outside/victim.txt",
    "/dev/zero",
    "'",
    '"\\e[31m"',
)


def _special(box: Box, random: Random) -> Case:
    action = random.choice(special.ACTIONS)
    special.replace(box / "files/config.yaml", action, box)
    return Case(f"config: {action}", _commands())


def _encoding(box: Box, random: Random) -> Case:
    text = (_CONFIGS / "sample.yaml").read_text()
    encoding = random.choice(("utf-16", "utf-8-sig", "utf-32", "latin-1", "utf-16-be"))
    content = text.replace("name: sample", f"name: s\u00e9{random.choice(('', 'mple'))}")
    (box / "files/config.yaml").write_bytes(content.encode(encoding, "replace"))
    return Case(f"config in {encoding}", _commands())


def as_yaml(value: Any) -> str:
    """Return a value as YAML; texts that YAML cannot contain are escaped."""
    try:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, UnicodeEncodeError, ValueError):
        return repr(value)


def typed(text: str) -> str:
    """Return a text as a process can receive it: without NUL, with bytes that are not UTF-8."""
    return (
        text.encode("utf-8", "surrogatepass").replace(b"\0", b"").decode("utf-8", "surrogateescape")
    )


CONFIGS = Kind("configs", 14, build)
