"""A kernel of Jupyter with a local Ray cluster of its own, and the code of docs/python.md."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celltune.search.storage.local import LocalExperiment
from tests.integration.conftest import REPOSITORY, wait_until

pytestmark = pytest.mark.faults

PREPARE = """
import celltune, ray
from celltune.search.cluster import shared_ray
config = {
    "name": "cut",
    "data": {"source": "synthetic", "reviews": 1000, "max_tokens": 60},
    "space": {"cell": ["gru", "mgu"], "hidden_size": [8, 16],
              "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True}, "embedding_size": 16},
    "budget": {"trials": 6, "max_epochs": 8},
    "baselines": False,
}
"""


class Kernel:
    """A running kernel, which executes cells one after the other."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client

    def start(self, code: str) -> str:
        """Begin to execute a cell; return what identifies it."""
        request: str = self.client.execute(code)
        return request

    def finish(self, request: str) -> dict[str, Any]:
        """Wait until a cell has ended; return the reply of the kernel."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            reply: dict[str, Any] = self.client.get_shell_msg(timeout=120)
            if reply["parent_header"].get("msg_id") == request:
                return reply["content"]
        raise TimeoutError

    def run(self, code: str, **expressions: str) -> dict[str, str]:
        """Execute a cell; return the representations of expressions after it."""
        request = self.client.execute(code, user_expressions=expressions)
        reply = self.finish(request)
        assert reply["status"] == "ok", reply
        values = reply["user_expressions"]
        return {name: value["data"]["text/plain"] for name, value in values.items()}


@pytest.fixture
def kernel(tmp_path: Path, shared_cache: Path) -> Iterator[Kernel]:
    from jupyter_client.manager import start_new_kernel

    env = {
        **os.environ,
        "CELLTUNE_STORAGE": str(tmp_path / "storage"),
        "CELLTUNE_CACHE": str(shared_cache),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    manager, client = start_new_kernel(kernel_name="python3", env=env, cwd=str(tmp_path))
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_an_interrupted_cell_is_continued_by_the_next_one_in_the_same_ray(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.run(PREPARE)
    launched = kernel.start("result = celltune.launch(config)")
    folder = LocalExperiment(tmp_path / "storage" / "cut")
    wait_until(lambda: folder.ledger.exists() and epochs_done(folder) >= 3)
    kernel.manager.interrupt_kernel()
    assert kernel.finish(launched)["status"] == "ok"
    assert folder.state().ended is not None
    done = epochs_done(folder)
    values = kernel.run(
        "cluster = shared_ray.SHARED.cluster\nresult, first = result.resume(), result",
        first="first.status",
        second="result.status",
        same="cluster == shared_ray.SHARED.cluster",
    )
    assert values == {"first": "'stopped'", "second": "'finished'", "same": "True"}
    assert epochs_done(folder) > done
    assert folder.state().count("failed") == 0

    before = time.monotonic()
    values = kernel.run(
        "again = celltune.launch(config, name='again', overrides=['budget.trials=1'])\n"
        "same = cluster == shared_ray.SHARED.cluster\ncelltune.shutdown()",
        same="same",
        stopped="ray.is_initialized()",
    )
    assert values == {"same": "True", "stopped": "False"}
    assert time.monotonic() - before < 30


def test_an_interrupt_before_the_search_leaves_nothing_behind(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.run(PREPARE)
    launched = kernel.start("result = celltune.launch(config)")
    time.sleep(1.5)  # Ray takes several seconds to start
    kernel.manager.interrupt_kernel()
    reply = kernel.finish(launched)
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
    assert not (tmp_path / "storage" / "cut").exists()
    values = kernel.run("result = celltune.launch(config)", status="result.status")
    assert values == {"status": "'finished'"}


@pytest.mark.usefixtures("local_ray")
def test_the_code_of_the_page_about_python_runs(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CELLTUNE_STORAGE", "CELLTUNE_CACHE"):
        monkeypatch.setenv(name, env[name])
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 (our own page)
    assert len(names["table"]) == 3
    assert names["films"].state.count("failed") == 0


def epochs_done(folder: LocalExperiment) -> int:
    """Return the number of recorded epochs of all trials."""
    return sum(trial.epochs_done for trial in folder.state().trials)
