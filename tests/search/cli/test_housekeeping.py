"""`celltune delete`, `prune`, `copy`, `du` and `logs`, and the commands of docs/housekeeping.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from celltune.data_prep.cache.inventory import cached_datasets
from celltune.search.cli import run as runs
from celltune.search.config.loading import dump_config
from celltune.search.ledger.events import TrialFailed, WorkerLost
from celltune.search.runs.launch import RunResult
from celltune.search.runs.session import resolve_for_run
from celltune.search.runs.view import SilentView
from celltune.search.storage.local import LocalExperiment
from tests.search.command_line import run

PAGE = Path(__file__).parents[3] / "docs" / "housekeeping.md"


@pytest.fixture
def cache(
    own: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache with the data of the experiments, and nothing of other tests."""
    copied = tmp_path_factory.mktemp("own") / "cache"
    created = LocalExperiment(own / "small").state().created
    assert created is not None
    shutil.copytree(
        Path(os.environ["CELLTUNE_CACHE"]) / created.fingerprint, copied / created.fingerprint
    )
    monkeypatch.setenv("CELLTUNE_CACHE", str(copied))
    return copied


@pytest.fixture
def celltune(cache: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_answer(given: bool) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(typer, "confirm", lambda question: asked.append(question) or given)
        return asked

    return set_answer


def test_a_deletion_is_confirmed(celltune: Any, own: Path, answer: Any) -> None:
    asked = answer(False)
    code, out, _ = celltune("delete", "small", "other", "small")
    assert code == 1
    assert asked == ["Delete small and other? This cannot be undone."]
    assert re.match(rf"small: 3 trials, [\d.]+ .B, in {own}/small\nother: 3 trials", out)
    assert out.endswith("Nothing was deleted.\n")
    assert LocalExperiment(own / "small").exists()
    answer(True)
    code, out, _ = celltune("delete", "small")
    assert code == 0
    assert re.search(r"^Deleted small \([\d.]+ .B\)\.$", out, re.M)
    assert not LocalExperiment(own / "small").exists()
    assert LocalExperiment(own / "other").exists()


def test_nobody_is_asked_without_a_terminal(celltune: Any, own: Path) -> None:
    code, _, err = celltune("delete", "small")
    assert code == 2
    assert err == (
        "celltune: Delete small? This cannot be undone. The standard input is not a terminal, so "
        "this cannot be answered. Set --yes to go on without the question.\n"
    )
    assert LocalExperiment(own / "small").exists()


def test_prepared_data_is_removed_with_the_last_experiment_that_uses_it(
    celltune: Any, own: Path, cache: Path
) -> None:
    fingerprint = LocalExperiment(own / "small").state().created.fingerprint  # type: ignore[union-attr]
    assert fingerprint in [dataset.fingerprint for dataset in cached_datasets(cache)]
    _, out, _ = celltune("delete", "small", "--yes", "--data")
    assert "prepared data" not in out
    assert fingerprint in [dataset.fingerprint for dataset in cached_datasets(cache)]
    shutil.copytree(own / "other", own / "third")
    celltune("delete", "third", "--yes")
    _, out, _ = celltune("delete", "other", "--yes", "--data")
    assert f"Its prepared data {fingerprint[:12]} (" in out
    assert "Removed prepared data: " in out
    assert fingerprint not in [dataset.fingerprint for dataset in cached_datasets(cache)]


def test_prepared_data_stays_by_default(celltune: Any, cache: Path) -> None:
    _, out, _ = celltune("delete", "small", "other", "--yes")
    assert "stays in the cache.\n" in out
    assert len(cached_datasets(cache)) == 1


def test_what_an_interrupted_deletion_left_is_removed(celltune: Any, own: Path) -> None:
    (own / "other").rename(own / ".other.0123456789abcdef.deleted")
    (own / ".other.keep").mkdir()
    assert celltune("delete", "small", "--yes")[0] == 0
    assert sorted(path.name for path in own.iterdir()) == [".other.keep"]


def test_pruning_says_what_is_lost(celltune: Any, own: Path, answer: Any) -> None:
    answer(False)
    code, out, _ = celltune("prune", "small", "--keep", 1)
    assert code == 1
    assert re.match(r"small: 1 checkpoint of trial 1, [\d.]+ kB, can be removed\. Check", out)
    assert "a trial cannot be exported, predict or join an ensemble" in out
    assert out.endswith("Nothing was removed.\n")
    answer(True)
    code, out, _ = celltune("prune", "small", "--keep", 1)
    assert code == 0
    assert re.search(r"^Removed 1 checkpoint, [\d.]+ kB\.$", out, re.M)
    code, out, _ = celltune("prune", "small", "--keep", 1)
    assert out == "Nothing to remove: only trial 0 of small have checkpoints.\n"
    assert celltune("leaderboard", "small")[0] == 0
    assert celltune("export", "small", "--trial", 1, "-o", own / "out")[0] == 2


def test_a_copy_is_listed_with_its_own_name(celltune: Any, own: Path) -> None:
    code, out, _ = celltune("copy", "small", "new")
    assert code == 0
    assert out.splitlines()[0].startswith(f"Copied small to {own}/new: ")
    assert out.splitlines()[1] == "Continue it with: celltune resume new"
    assert celltune("status", "new")[0] == 0
    code, out, _ = celltune("copy", "small", "new", "--to", own / "elsewhere")
    assert code == 0
    assert out.endswith(f"celltune resume new --storage {own}/elsewhere\n")
    code, _, err = celltune("copy", "small", "other")
    assert code == 2
    assert err.endswith("Resume it, or choose another NEW.\n")
    code, _, err = celltune("copy", "small", "newer", "--to", "")
    assert code == 2
    assert "--to is empty. Give a folder or a URI, or omit it." in err


def test_sizes_are_listed(celltune: Any, own: Path, cache: Path) -> None:
    shutil.rmtree(own / "other" / "trials")
    code, out, _ = celltune("du")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[0] == ["experiment", "size", "checkpoints", "their", "size"]
    assert [line[0] for line in lines[2:5]] == ["small", "other", "total"]
    size = sum(dataset.nbytes for dataset in cached_datasets(cache)) / 1e3
    assert out.splitlines()[-1].startswith(f"Cache {cache}: 1 prepared data set, {size:.1f} kB; s")
    _, out, _ = celltune("du", "other")
    assert "small" not in out
    assert "total" not in out
    assert "contains no experiments" in celltune("du", "--storage", own / "none")[1]
    assert celltune("du", "nothing")[0] == 2


def test_logs_print_tracebacks(celltune: Any, own: Path) -> None:
    experiment = LocalExperiment(own / "small")
    with experiment.locked(), experiment.open_ledger() as ledger:
        created = ledger.events[1].model_copy(update={"number": 3, "at": 5.0})
        lost = WorkerLost(at=6.0, number=3, error="signal 9", cause="lost")
        failed = TrialFailed(at=7.0, number=3, error="no", details="Traceback:\n  \x1bx\nno\n")
        ledger.append(created, lost, failed)
    code, out, _ = celltune("logs", "small", "--trial", 3)
    assert code == 0
    assert [line.partition(" trial ")[2] or line for line in out.splitlines()] == [
        "3 lost its worker, because its worker died: signal 9",
        "3 failed: no",
        "  Traceback:",
        "    \\x1bx",
        "  no",
        "Trial 3 is failed after 0 of 3 epochs.",
    ]
    code, out, _ = celltune("logs", "small")
    assert "trial 2 failed: it broke" in out
    assert "Traceback:" in out
    assert celltune("logs", "small", "--trial", 0)[1] == (
        "Trial 0 of small did not fail or lose its worker.\n"
    )
    code, _, err = celltune("logs", "small", "--trial", 4)
    assert code == 2
    assert err == ("celltune: --trial is 4, but 'small' has no such trial. The last one is 3.\n")
    assert "Tracebacks: celltune logs small\n" in celltune("status", "small")[1]


def test_the_commands_of_the_page_work(
    celltune: Any, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "small").rename(own / "reviews")
    (own / "search.yaml").write_text(dump_config(LocalExperiment(own / "other").config()))
    monkeypatch.chdir(own)
    launched = []

    def launch(config: Any, *, name: str, warm_start: str, overrides: Any, **_: Any) -> RunResult:
        snapshot = LocalExperiment(own / warm_start).snapshot()
        resolved = resolve_for_run(config, overrides, name, view=SilentView())
        launched.append(resolved)
        return RunResult(
            LocalExperiment(own / warm_start), snapshot.config, snapshot.state, "finished"
        )

    monkeypatch.setattr(runs.runs, "launch", launch)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "celltune"
        code, _, err = celltune(*arguments)
        assert code == 0, f"{command}: {err}"
    (config,) = launched
    assert config.name == "reviews-wider"
    assert config.space.searched["hidden_size"].high == 32
