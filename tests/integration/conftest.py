from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CELLTUNE = Path(sys.executable).with_name("celltune")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def start(env: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    """Start the command without waiting for it; its output is in the pipe `stdout`."""
    return subprocess.Popen(
        [str(CELLTUNE), *(str(argument) for argument in arguments)],
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(address: str) -> list[int]:
    """Return the process ids of the workers in the cluster at `address`."""
    import psutil

    pids = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "TrialWorker" in " ".join(process.info["cmdline"] or []):
            with suppress(psutil.Error):
                raylet = process.parent()
                if raylet and f"--gcs-address={address}" in raylet.cmdline():
                    pids.append(process.pid)
    return pids


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, at most for two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def env(tmp_path: Path, shared_cache: Path) -> dict[str, str]:
    """An environment that keeps celltune away from the user's own storage and cache."""
    return {
        **os.environ,
        "CELLTUNE_STORAGE": str(tmp_path / "storage"),
        "CELLTUNE_CACHE": str(shared_cache),
    }


@pytest.fixture
def address(local_ray: None) -> str:
    """The address of the local Ray cluster that the tests share."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def command(local_ray: None, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, which saves seconds: Ray is connected, torch is imported."""
    from celltune.search.cli.app import main

    def run(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        argv = ["celltune", *(str(argument) for argument in arguments)]
        stdout, stderr = io.StringIO(), io.StringIO()
        code: object = 0
        with monkeypatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
            for name in ("CELLTUNE_STORAGE", "CELLTUNE_CACHE"):
                patch.setenv(name, env[name])
            patch.chdir(cwd)
            patch.setattr(sys, "argv", argv)
            try:
                main()
            except SystemExit as exit_:
                code = exit_.code or 0
        assert isinstance(code, int)
        return subprocess.CompletedProcess(argv, code, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture
def celltune(env: dict[str, str]) -> Run:
    """Run the command in a new process, by default in the repository's folder."""

    def run(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CELLTUNE), *(str(argument) for argument in arguments)],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
