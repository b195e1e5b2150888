"""A set in a cluster of two nodes, and the commands that look at its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_node_pulls_a_set_once_and_the_set_outlives_its_search(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("two_nodes.py")), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # The search that published it is over.
    places = [{tuple(each) for each in of_node} for of_node in found["opened"].values()]
    assert [len(of_node) for of_node in places] == [1, 1]
    assert {ids_sum for of_node in places for ids_sum, *_ in of_node} == {found["sum"]}
    assert len({memory for of_node in places for _, memory, _ in of_node}) == 2

    assert "Removed 0 of the cluster" in found["while searching"]
    assert "Kept what searches use: " in found["while searching"]
    assert "5,000" in found["listed"]
    assert "Removed 1 of the cluster" in found["cleared"]
    assert "holds no prepared sets" in found["listed at last"]
