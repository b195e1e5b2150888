"""A second node that does not see the head's storage, because it has its own mount there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

DRIVER = """
import os, subprocess, sys, time
import ray
from celltune import launch
from celltune.search.cluster.storage_check import check_storage_shared
from celltune.search.errors import ResourceError
from celltune.search.storage.locate import open_storage

storage, elsewhere, bucket = sys.argv[1:]
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
address = ray.get_runtime_context().gcs_address
started = time.perf_counter()
check_storage_shared(open_storage(storage))
print("alone", time.perf_counter() - started < 0.01)
node = subprocess.Popen(
    ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec ray start --block '
     '--num-cpus=1 --address="$1"', storage, address],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
try:
    while sum(each["Alive"] for each in ray.nodes()) < 2:
        assert node.poll() is None, "ray start failed"
        time.sleep(0.1)
    config = {"name": "demo", "data": {"source": "synthetic", "reviews": 60},
              "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
              "budget": {"trials": 1, "max_epochs": 1}}
    try:
        launch(config, storage=storage)
    except ResourceError as error:
        print("rejected:", error)
    print("files", os.listdir(storage))
    check_storage_shared(open_storage(elsewhere))
    check_storage_shared(open_storage(bucket))
    print("passed", os.listdir(elsewhere))
finally:
    node.terminate()
    node.wait()
    ray.shutdown()
"""


def test_a_storage_that_only_the_head_sees_is_rejected_before_trials_start(
    tmp_path: Path, bucket: str
) -> None:
    command = ["unshare", "--mount", "true"]
    if (
        os.getuid()
        or not shutil.which("unshare")
        or subprocess.run(command, check=False).returncode
    ):
        pytest.skip("a process with its own mounts needs root and `unshare`")
    for name in ("storage", "elsewhere"):
        (tmp_path / name).mkdir()
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, tmp_path / "storage", tmp_path / "elsewhere", bucket],
        env={**os.environ, "PATH": search_path, "CELLTUNE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone, rejected, files, passed = done.stdout.splitlines()
    assert alone == "alone True"
    assert rejected.startswith("rejected: Trials write their checkpoints to the storage")
    assert "not every node of the cluster can use it" in rejected
    assert "it does not see the storage" in rejected
    assert files == "files []"
    assert passed == "passed []"
