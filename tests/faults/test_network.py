"""A node in its own network namespace, whose link is cut while its trials run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from celltune.search.ledger.events import EpochReported, WorkerLost
from celltune.search.ledger.ledger import read
from celltune.search.storage.local import LocalExperiment
from tests.faults.test_kills import LONG, assert_complete
from tests.integration.conftest import start
from tests.integration.test_resume import write_config

pytestmark = pytest.mark.faults

NAMESPACE, NEAR, FAR = "celltune-test", "10.97.53.1", "10.97.53.2"
RAY = Path(sys.executable).with_name("ray")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def link() -> Iterator[None]:
    """A network namespace connected to this one by a pair of virtual interfaces."""
    try:
        ip("netns", "add", NAMESPACE)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces need Linux, `ip`, and the permission to create them")
    try:
        ip("link", "add", "ct-near", "type", "veth", "peer", "name", "ct-far")
        ip("link", "set", "ct-far", "netns", NAMESPACE)
        ip("addr", "add", f"{NEAR}/24", "dev", "ct-near")
        ip("link", "set", "ct-near", "up")
        for arguments in (
            ("addr", "add", f"{FAR}/24", "dev", "ct-far"),
            ("link", "set", "ct-far", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", NAMESPACE, *arguments)
        yield
    finally:
        subprocess.run(["ip", "link", "del", "ct-near"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)


@contextmanager
def started(command: list[str], env: dict[str, str]) -> Iterator[None]:
    """Run `ray start --block`; kill it and its children at the end."""
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count_nodes(address: str, env: dict[str, str]) -> int:
    """Return how many nodes of a cluster are alive."""
    script = f"import ray; ray.init('{address}', log_to_driver=False); print(len(ray.nodes()))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    return int(done.stdout) if done.returncode == 0 else 0


def wait(
    condition: Callable[[], bool], process: subprocess.Popen[str] | None, seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("link")
def test_trials_of_an_unreachable_node_are_retried_on_other_nodes(
    env: dict[str, str], tmp_path: Path
) -> None:
    head = f"{NEAR}:46399"
    # Otherwise a token that another cluster left on this machine is required on both sides.
    env["RAY_AUTH_MODE"] = "disabled"
    common = ["--disable-usage-stats", "--block", "--object-store-memory=150000000"]
    here = [str(RAY), "start", "--head", f"--node-ip-address={NEAR}", "--port=46399"]
    there = ["ip", "netns", "exec", NAMESPACE, str(RAY), "start", f"--address={head}"]
    config = write_config(tmp_path / "c.yaml", **LONG, resources={"concurrent_trials": 3})
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")

    def three_trials_reported() -> bool:
        if not folder.ledger.exists():
            return False
        reports = [event for event in read(folder.ledger) if isinstance(event, EpochReported)]
        return len({event.number for event in reports}) >= 3

    with ExitStack() as nodes:
        temporary = temp_dir_option(nodes)
        nodes.enter_context(
            started([*here, *common, "--num-cpus=1", "--include-dashboard=false", temporary], env)
        )
        nodes.enter_context(
            started([*there, *common, f"--node-ip-address={FAR}", "--num-cpus=2"], env)
        )
        wait(lambda: count_nodes(head, env) == 2, None, 120)
        process = start(env, "launch", config, "--address", head)
        wait(three_trials_reported, process, 180)
        ip("link", "set", "ct-near", "down")
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert_complete(folder)
    lost = [event for event in read(folder.ledger) if isinstance(event, WorkerLost)]
    assert lost
    assert {event.cause for event in lost} == {"lost"}
    assert "Traceback" not in output


def temp_dir_option(nodes: ExitStack) -> str:
    """Return the option for the head's session folder; Ray's sockets need a short path."""
    import tempfile

    return f"--temp-dir={nodes.enter_context(tempfile.TemporaryDirectory(prefix='ct'))}"
