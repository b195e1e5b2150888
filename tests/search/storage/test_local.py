from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from celltune.search.errors import ExperimentError, LedgerError
from celltune.search.ledger.events import ExperimentCreated, TrialCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import new_experiment, open_storage
from tests.search.simulated_search import make_config

FIRST = ExperimentCreated(at=1.0, fingerprint="f")


@pytest.fixture
def experiment(tmp_path: Path) -> LocalExperiment:
    experiment = new_experiment("demo", tmp_path / "storage")
    experiment.create(make_config(), FIRST)
    return experiment


def test_create_leaves_no_temporary_folder(experiment: LocalExperiment) -> None:
    with pytest.raises(ExperimentError, match="already exists"):
        experiment.create(make_config(), FIRST)
    assert experiment.state().trials == []
    assert [path.name for path in experiment.path.parent.iterdir()] == ["demo"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "x" * 101])
def test_invalid_name_is_rejected(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="is not a valid experiment name"):
        new_experiment(name, tmp_path)


def test_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    experiment = new_experiment("demo", tmp_path)
    with pytest.raises((ExperimentError, LedgerError), match="No space left"):
        experiment.create(make_config(), FIRST)
    assert list(tmp_path.iterdir()) == []


def test_create_in_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match=r"cannot be written: .* another folder"):
        LocalExperiment(tmp_path / "file" / "demo").create(make_config(), FIRST)


def test_unusable_storage_is_rejected_before_create(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match=r"is a file\. Use a folder or a URI"):
        new_experiment("demo", tmp_path / "file")
    with pytest.raises(ExperimentError, match=r"is a file\. Use a folder or a URI"):
        open_storage(tmp_path / "file").names()
    too_long = tmp_path / ("x" * 5000)
    with pytest.raises(ExperimentError, match="cannot be read: File name too long"):
        new_experiment("demo", too_long)
    with pytest.raises(ExperimentError, match="cannot be read: File name too long"):
        open_storage(too_long).names()


def test_second_process_is_rejected_until_the_first_is_killed(experiment: LocalExperiment) -> None:
    assert not experiment.is_locked()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from celltune.search.storage.local import LocalExperiment\n"
            "with LocalExperiment(Path(sys.argv[1])).locked():\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(experiment.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    assert experiment.is_locked()
    with (
        pytest.raises(ExperimentError, match=f"run by another process .pid {holder.pid} on"),
        experiment.locked(),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    assert not experiment.is_locked()
    with experiment.locked():
        assert experiment.is_locked()


def test_missing_folder_cannot_be_locked(tmp_path: Path) -> None:
    with (
        pytest.raises(ExperimentError, match="cannot be written: No such file"),
        LocalExperiment(tmp_path / "none").locked(),
    ):
        pass


def test_contradictory_ledger_is_rejected(experiment: LocalExperiment) -> None:
    with Ledger(experiment.ledger) as ledger:
        ledger.append(TrialCreated(at=1.0, number=5, params={}, max_epochs=1))
    with pytest.raises(LedgerError, match="contradicts itself in line 2: trial 5 cannot be"):
        experiment.state()


def test_storage_defaults_to_the_environment_then_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CELLTUNE_STORAGE", raising=False)
    assert str(open_storage()) == str(tmp_path / "celltune_results")
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path / "env"))
    assert str(open_storage()) == str(tmp_path / "env")
    assert str(open_storage("~/mine")) == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("~nosuchuser/x", r"'~nosuchuser/x' starts with '~', but this user's home folder is unkn"),
        (
            "file://host/x",
            r"'file://host/x' is not the URI of a folder on this machine\. Use file:",
        ),
        ("file://", r"is not the URI of a folder on this machine"),
        ("a\0b", r"'a\\x00b' is not a path\. Use a folder"),
        (
            "HTTP://u:secret@h",
            r"the unknown scheme 'http'\. Use a path, or one of the sch",
        ),
        ("'http://u:secret@h'", r"contains '://', but does not begin with the scheme"),
        (" http://u:secret@h", r"the unknown scheme 'http'\. Use a path"),
        ("S3://u:secret@h/x", r"contains a password, which would appear"),
        ("s3://[x", r"s3://\[x cannot be opened: "),
    ],
)
def test_an_invalid_address_is_rejected(address: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as raised:
        open_storage(address)
    assert "secret" not in str(raised.value)


def test_a_file_uri_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "my folder").mkdir()
    for uri in (f"file://{tmp_path}/my%20folder", f"FILE://localhost{tmp_path}/my folder"):
        assert str(open_storage(uri)) == str(tmp_path / "my folder")
    assert str(open_storage(Path("file://x"))) == str(Path("file:/x").absolute())


def test_the_folder_of_an_experiment_is_not_a_storage(experiment: LocalExperiment) -> None:
    storage = experiment.path.parent
    for inner, where in ((experiment.path, "is"), (experiment.path / "trials" / "0", "is in")):
        message = f"{where} the folder of the experiment 'demo'. Use {storage}, which contains"
        with pytest.raises(ExperimentError, match=message):
            new_experiment("other", inner)
        with pytest.raises(ExperimentError, match=message):
            open_storage(inner).names()
    assert not (experiment.path / "trials").exists()


def test_a_storage_below_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExperimentError, match=r"is below .*/file, which is a file\. Use a folder"):
        new_experiment("demo", tmp_path / "file" / "x" / "y")


def test_a_storage_that_cannot_be_written_is_rejected_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(ExperimentError, match=r"cannot be written: Permission denied\. Check its"):
        new_experiment("demo", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_can_be_used_leaves_nothing(tmp_path: Path) -> None:
    new_experiment("demo", tmp_path / "new" / "storage")
    assert list(tmp_path.iterdir()) == []
