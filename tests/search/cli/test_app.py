from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from celltune.search.cli import app
from celltune.search.ledger.events import ExperimentCreated, RunEnded, RunStarted, WorkerLost
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import CONFIG
from celltune.search.storage.local import LEDGER, LocalExperiment
from celltune.search.storage.locate import new_experiment
from celltune.search.version import VERSION
from tests.search.command_line import run
from tests.search.simulated_search import RAW, make_config, make_controller, steps


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "storage"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "storage"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(RAW))
    return path


@pytest.fixture
def experiment(storage: Path) -> LocalExperiment:
    folder = new_experiment("demo", storage)
    folder.create(make_config(), ExperimentCreated(at=1.0, fingerprint="f"))
    with Ledger(folder.ledger) as ledger:
        ledger.append(RunStarted(at=1.0, resumed=False, celltune="1", host="h", pid=1))
        running = steps(make_controller(make_config(), ledger))
        for _ in range(9):
            next(running)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch", "none.yaml"], "none.yaml cannot be read: No such file"),
        (["launch", "demo.yaml", "--set", "budget.trials=x"], "budget.trials is 'x'. It must be"),
        (["launch", "demo.yaml", "--set", "x"], "not of the form key.path=value"),
        (["launch", "demo.yaml", "--name", "a/b", "--dry-run"], "name is 'a/b'. Use up to"),
        (["launch", "demo.yaml", "--dry-run"], "'demo' already exists.*Resume it"),
        (["launch", "demo.yaml"], "'demo' already exists.*Resume it"),
        (
            [
                "launch",
                "demo.yaml",
                "--name=x",
                "--dry-run",
                "--set=data={source: csv, path: none.csv}",
            ],
            "none.csv does not exist",
        ),
        (["resume", "none"], "no experiment 'none'"),
        (["status", "dmo"], "Did you mean 'demo'"),
        (["leaderboard", "demo", "--top", "0"], "--top is '0'. It must be at least 1."),
        (["leaderboard", "demo", "--top", "9" * 5000], "--top is '999.*fewer digits"),
        (["export", "demo", "-o", "x", "--trial", "one"], "--trial is 'one'. It must be a whole"),
        (
            ["validate", "demo.yaml", "--set", "data.reviews=x"],
            "data.reviews is 'x'. It must be a",
        ),
        (
            [
                "validate",
                "demo.yaml",
                "--set",
                "data={source: csv, path: none.csv}",
            ],
            "none.csv does not exist",
        ),
    ],
)
@pytest.mark.usefixtures("experiment", "config")
def test_invalid_input_is_one_error_with_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    storage: Path,
) -> None:
    before = sorted(storage.rglob("*"))
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("celltune: ") == 1
    assert "Traceback" not in err
    assert re.search(message, err, re.DOTALL), err
    assert sorted(storage.rglob("*")) == before


@pytest.mark.usefixtures("storage", "config")
def test_dry_run_shows_the_plan_and_starts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, "launch", "demo.yaml", "--dry-run", "--set", "seed=9")
    assert code == 0
    assert "seed: 9" in out
    assert "Plan: 12 trials of up to 4 epochs, ASHA by valid_loss from epoch 1 with factor 2" in out
    assert "Dry run: nothing was started" in out
    assert not storage.exists()


@pytest.mark.usefixtures("storage", "config")
def test_validate_reads_the_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "validate", "demo.yaml")
    assert code == 0
    assert re.search(r"^all +32 +8$", out, re.MULTILINE)
    assert "demo.yaml is valid." in out


@pytest.mark.usefixtures("storage", "config")
def test_validate_names_what_may_surprise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("validate", "demo.yaml", "--set", "space.decay_epochs=3", "--set")
    first = "first_trials=[{hidden_size: 500, learning_rate: 5}, {hidden_size: 16}]"
    _, out, _ = run(capsys, monkeypatch, *command, first)
    assert (
        "space.decay_epochs is 3, so trials train with 1 % of their learning rate from epo" in out
    )
    assert (
        "Outside of the space, so that the sampler does not learn: first trial 0 (hidden_size 500 "
        "and learning_rate 5.0).\n"
    ) in out
    _, out, _ = run(capsys, monkeypatch, *command, "budget.max_epochs=3")
    assert "Outside of" not in out
    assert "1 %" not in out


def unfinished_trial(ledger: Ledger) -> int:
    trials = ExperimentState(ledger).trials
    return next(trial.number for trial in trials if trial.status == "unfinished")


def test_status_shows_the_state_and_the_next_command(
    experiment: LocalExperiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = run(capsys, monkeypatch, "status", "demo")
    assert out.startswith("demo: killed")
    assert "epochs: 9 of at most 48" in out
    assert "Resume it with: celltune resume demo" in out
    assert "lost" not in out
    with Ledger(experiment.ledger) as ledger:
        ledger.append(WorkerLost(at=2.0, number=unfinished_trial(ledger), error="it was killed"))
    _, out, _ = run(capsys, monkeypatch, "status", "demo")
    assert (
        "1 worker was lost; the trials continue from their checkpoints. The last one died: " in out
    )
    with experiment.locked():
        assert run(capsys, monkeypatch, "status", "demo")[1].startswith("demo: running")
    with Ledger(experiment.ledger) as ledger:
        ledger.append(RunEnded(at=2.0, reason="interrupted"))
    assert run(capsys, monkeypatch, "status", "demo")[1].startswith("demo: stopped")
    with Ledger(experiment.ledger) as ledger:
        list(steps(make_controller(make_config(), ledger)))
    _, out, _ = run(capsys, monkeypatch, "status", "demo")
    assert out.startswith("demo: finished")
    assert "Example: celltune resume demo --trials +20" in out


def test_list_shows_every_experiment_including_damaged_ones(
    experiment: LocalExperiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = experiment.path.parent / "broken"
    damaged.mkdir()
    for name in (CONFIG, LEDGER):
        (damaged / name).write_bytes(b"x\n" + (experiment.path / name).read_bytes())
    headless = experiment.path.parent / "headless"
    headless.mkdir()
    (headless / CONFIG).write_bytes((experiment.path / CONFIG).read_bytes())
    code, out, _ = run(capsys, monkeypatch, "list")
    assert code == 0
    broken, demo, without, *reasons = out.splitlines()[2:]
    assert broken.split() == ["broken", "damaged"]
    assert without.split() == ["headless", "damaged"]
    assert "killed" in demo
    assert "/12" in demo
    assert reasons[0].startswith(f"broken is damaged: The ledger {damaged / LEDGER} is damaged in")
    assert reasons[1].startswith("headless is damaged: The ledger ")
    assert reasons[1].endswith(
        "is missing. Restore the file from a copy, or remove the experiment."
    )


@pytest.mark.usefixtures("storage")
def test_empty_list_names_the_launch_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "celltune launch FILE" in run(capsys, monkeypatch, "list")[1]


def test_resuming_a_finished_search_changes_nothing(
    experiment: LocalExperiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(experiment.ledger) as ledger:
        list(steps(make_controller(make_config(), ledger)))
    before = experiment.ledger.read_bytes()
    code, out, _ = run(capsys, monkeypatch, "resume", "demo")
    assert code == 0
    assert "Leaderboard of demo" in out
    assert experiment.ledger.read_bytes() == before


def test_disk_error_names_the_file(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(address: object) -> None:
        raise OSError(28, "No space left on device", "/full/ledger")

    monkeypatch.setattr(app, "open_storage", fail)
    code, _, err = run(capsys, monkeypatch, "list")
    assert code == 1
    assert err == "celltune: /full/ledger cannot be read or written: No space left on device.\n"


def test_the_version_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, monkeypatch, "--version") == (0, f"celltune {VERSION}\n", "")


@pytest.mark.usefixtures("storage", "config")
def test_validate_shows_what_is_trained_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("space={cell: [gru, lstm], hidden_size: 8}", "data.max_tokens=4", "data.reviews=100")
    sets = [part for change in changes for part in ("--set", change)]
    code, out, _ = run(capsys, monkeypatch, "validate", "demo.yaml", *sets)
    assert code == 0
    assert (
        "Space: 2 configurations, 12 trials: no configuration is repeated, so the search ends "
        "after 2 trials. To repeat them with other seeds, set budget.repeat to true.\n"
    ) in out
    table = out.partition("class ")[2]
    for pattern in (
        r"negative +\d+ +\d+\npositive +\d+ +\d+\nall +80 +20\n\n",
        r"majority +'\w+', \d\d\.\d % of valid: the accuracy of always",
        r"tokens +median \d+, 90 % up to \d+, longest \d+ per document",
        r"cut +\d+ of 100 documents \(\d+\.\d %\) to data.max_tokens 4; ",
        r"vocabulary +[\d,]+ ids, of [\d,]+ distinct words in train; ",
        r"duplicates +",
    ):
        assert re.search(f"^{pattern}", table, re.MULTILINE), pattern
    assert max(map(len, table.splitlines())) < 80
    _, out, _ = run(capsys, monkeypatch, "validate", "demo.yaml", *sets, "--set=budget.repeat=true")
    assert "12 trials; trials may repeat configurations with other seeds (budget.repeat).\n" in out
    _, out, _ = run(capsys, monkeypatch, "validate", "demo.yaml", *sets, "--set=budget.trials=2")
    assert "Space: 2 configurations, 2 trials; no configuration is repeated.\n" in out


@pytest.mark.usefixtures("storage")
def test_validate_counts_texts_with_two_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"good film {index // 2},{'ab'[index % 4 == 1]}" for index in range(60)]
    Path("two.csv").write_text("\n".join(["text,label", *rows]))
    Path("two.yaml").write_text(yaml.safe_dump({**RAW, "data": {"path": "two.csv"}}))
    _, out, _ = run(capsys, monkeypatch, "validate", "two.yaml")
    assert "\nconflicts    30 documents (50.0 %): the text also occurs with another label\n" in out


@pytest.mark.usefixtures("storage")
def test_a_thousand_classes_take_three_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"good film {index} a,c{index % 1000}" for index in range(6_000)]
    Path("many.csv").write_text("\n".join(["text,label", *rows, "only one,c7"]))
    names = [f"c{index}" for index in range(1_000)]
    data = {"source": "csv", "path": "many.csv", "classes": names, "test_size": 0.2}
    Path("many.yaml").write_text(yaml.safe_dump({**RAW, "data": data}))
    _, out, _ = run(capsys, monkeypatch, "validate", "many.yaml")
    train, valid, test = (line for line in out.splitlines() if " classes: " in line)
    assert re.fullmatch(r"train +3,60\d documents of 1,000 classes: \d to \d, median \d", train)
    assert re.fullmatch(r"valid +1,200 documents of 1,000 classes: 1 to 2, median 1", valid)
    assert re.fullmatch(r"test +1,200 documents of 1,000 classes: 1 to 2, median 1", test)
    assert "c999" not in out
