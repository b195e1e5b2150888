"""A real `ray start` node in a network namespace of its own, whose link is cut under its trials."""

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
from tests.faults.test_kills import LONG, check_whole
from tests.integration.conftest import begin
from tests.integration.test_resume import write

pytestmark = pytest.mark.faults

NAMESPACE, NEAR, FAR = "celltune-test", "10.97.53.1", "10.97.53.2"
RAY = Path(sys.executable).with_name("ray")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def link() -> Iterator[None]:
    """A namespace that only a pair of virtual interfaces joins to this one."""
    try:
        ip("netns", "add", NAMESPACE)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces need Linux, `ip`, and the right to make them")
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
    """A `ray start --block`, killed with all its children at the end."""
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


def nodes_at(address: str, env: dict[str, str]) -> int:
    """How many nodes of a cluster are alive."""
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
def test_a_node_behind_a_cut_link_is_given_up_and_its_trials_go_on_elsewhere(
    env: dict[str, str], tmp_path: Path
) -> None:
    head = f"{NEAR}:46399"
    # A token that some cluster of this machine left would be asked for on both sides of the link.
    env["RAY_AUTH_MODE"] = "disabled"
    common = ["--disable-usage-stats", "--block", "--object-store-memory=150000000"]
    here = [str(RAY), "start", "--head", f"--node-ip-address={NEAR}", "--port=46399"]
    there = ["ip", "netns", "exec", NAMESPACE, str(RAY), "start", f"--address={head}"]
    config = write(tmp_path / "c.yaml", **LONG, resources={"concurrent_trials": 3})
    folder = LocalExperiment(Path(env["CELLTUNE_STORAGE"]) / "cut")

    def trials_under_way() -> bool:
        if not folder.ledger.exists():
            return False
        begun = {event.number for event in read(folder.ledger) if isinstance(event, EpochReported)}
        return len(begun) >= 3

    with ExitStack() as nodes:
        temporary = tempfile_for_ray(nodes)
        nodes.enter_context(
            started([*here, *common, "--num-cpus=1", "--include-dashboard=false", temporary], env)
        )
        nodes.enter_context(
            started([*there, *common, f"--node-ip-address={FAR}", "--num-cpus=2"], env)
        )
        wait(lambda: nodes_at(head, env) == 2, None, 120)
        process = begin(env, "launch", config, "--address", head)
        wait(trials_under_way, process, 180)
        ip("link", "set", "ct-near", "down")
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    check_whole(folder)
    lost = [event for event in read(folder.ledger) if isinstance(event, WorkerLost)]
    assert lost
    assert {event.cause for event in lost} == {"lost"}
    assert "Traceback" not in output


def tempfile_for_ray(nodes: ExitStack) -> str:
    """A folder for the head's session; Ray's sockets bear only short paths."""
    import tempfile

    return f"--temp-dir={nodes.enter_context(tempfile.TemporaryDirectory(prefix='ct'))}"
