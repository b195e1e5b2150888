"""Script: run commands in a local cluster whose GPUs only Ray believes in.

It is a process of its own, so that the shared local Ray cluster of the tests is not affected.
"""

from __future__ import annotations

import json
import sys

import ray
from typer.testing import CliRunner

import celltune.search.cluster  # noqa: F401 (sets the variables that Ray reads at its import)
from celltune.data_prep.cache.ray_store import NAMESPACE
from celltune.search.cli.app import app


def main() -> None:
    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=2,
        include_dashboard=False,
        namespace=NAMESPACE,
        log_to_driver=False,
    )
    results = []
    for arguments in json.loads(sys.argv[1]):
        done = CliRunner().invoke(app, arguments)
        results.append([str(done.exception), done.output])
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
