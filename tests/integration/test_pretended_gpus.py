"""Searches and evaluations in a cluster whose GPUs torch cannot use: `make faults`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CONFIG: dict[str, Any] = {
    "name": "pretended",
    "data": {"source": "synthetic", "reviews": 60, "test_size": 0.2},
    "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
    "budget": {"trials": 1, "max_epochs": 1},
    "baselines": False,
}


@pytest.mark.faults
def test_gpus_that_torch_cannot_use_are_rejected_before_anything_is_created(
    tmp_path: Path, env: dict[str, str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU")
    config = tmp_path / "pretended.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    share = ["--set", "resources.gpus_per_trial=0.5"]
    commands = [
        ["launch", str(config), *share],
        ["list"],
        ["launch", str(config)],
        ["evaluate", "pretended", "--top", "1", "--seeds", "1", "--no-baselines", *share],
    ]
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("pretended_gpus.py")),
            json.dumps(commands),
        ],
        env={**env, "PYTHONPATH": os.fspath(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    launched, listed, on_cpu, evaluated = json.loads(done.stdout.splitlines()[-1])
    for error, _ in (launched, evaluated):
        assert re.match(
            r"resources\.gpus_per_trial is 0\.5, but torch \S+ on the node \S+ (is a build without "
            r"CUDA|finds no usable GPU).* or set resources\.gpus_per_trial to 0 to train on the "
            r"CPU\.$",
            error,
        )
    assert "contains no experiments" in listed[1]
    assert "because resources.gpus_per_trial is 0, but the cluster has 2 GPUs" in on_cpu[1]
    assert "completed" in on_cpu[1]
