from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
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
def celltune(env: dict[str, str]) -> Run:
    """Run the command, by default in the repository's folder."""

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
