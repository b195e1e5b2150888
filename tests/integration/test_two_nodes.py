"""Prepared data in a cluster of two nodes, and the commands that list and clear it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_each_node_has_one_copy_of_the_data_which_outlives_its_search(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("two_nodes.py")), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    # The search that published the data is over.
    per_node = [{tuple(opened) for opened in node} for node in result["opened"].values()]
    assert [len(locations) for locations in per_node] == [1, 1]
    assert {ids_sum for locations in per_node for ids_sum, *_ in locations} == {result["sum"]}
    assert len({inode for locations in per_node for _, inode, _ in locations}) == 2

    assert "Removed 0 from the cluster" in result["while searching"]
    assert "Kept, because searches use them: " in result["while searching"]
    assert "5,000" in result["listed"]
    assert "Removed 1 from the cluster" in result["cleared"]
    assert "holds no prepared data" in result["listed at last"]
