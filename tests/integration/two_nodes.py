"""Script: publish data in a cluster of two nodes, open it, clear it; print the result as JSON.

It is a process of its own, so that the shared local Ray cluster of the tests is not affected.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as NodeAffinity
from typer.testing import CliRunner

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.config import DataConfig
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.cli.app import app

STORE_BYTES = 80 << 20
TRIALS = 2


class Trial:
    """Opens the data as a trial does."""

    def open(self, handle: store.DataHandle) -> list[int]:
        """Return the sum of the ids, and the inode and offset of the memory that contains them."""
        ids = store.open_handle(handle).train.ids
        address = ids.ctypes.data
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _, offset, _, inode, *_ = line.split()
            start, end = (int(bound, 16) for bound in span.split("-"))
            if start <= address < end:
                return [int(ids.sum()), int(inode), int(offset, 16) + address - start]
        raise LookupError("no mapped memory contains the ids")


def trial_on(node: str) -> Any:
    strategy = NodeAffinity(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=strategy)(Trial).remote()


def command(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    return f"{done.exit_code} {done.output}"


def main(cache_dir: Path) -> dict[str, Any]:
    data = prepare(DataConfig(source="synthetic", reviews=5_000), cache_dir=cache_dir)
    options = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "num_cpus": 1})
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    result: dict[str, Any] = {"sum": int(data.train.ids.sum())}
    try:
        ray.init(address=cluster.address, namespace=store.NAMESPACE, log_to_driver=False)
        with store.acquired(data) as handle:
            result["while searching"] = command("cache", "clear", "--address", cluster.address)
        ray.shutdown()

        result["listed"] = command("cache", "list", "--address", cluster.address)
        ray.init(address=cluster.address, namespace=store.NAMESPACE, log_to_driver=False)
        result["opened"] = {
            node["NodeID"]: [
                ray.get(trial_on(node["NodeID"]).open.remote(handle)) for _ in range(TRIALS)
            ]
            for node in ray.nodes()
        }
        ray.shutdown()

        result["cleared"] = command("cache", "clear", "--address", cluster.address)
        result["listed at last"] = command("cache", "list", "--address", cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
