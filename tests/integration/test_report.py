"""The report in a real browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from celltune.search.report.page import page
from celltune.search.report.subject import read_subject
from tests.search.support import finished_search, make_config

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_browser_draws_the_page_without_a_network(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 16, "max_epochs": 4})
    written = tmp_path / "report.html"
    written.write_text(page(read_subject(finished_search(tmp_path, config))), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [str(CHROMIUM), *options, written.as_uri()],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if re.search("Uncaught|Refused|Error", line)] == []
    drawn = done.stdout
    assert drawn.count('class="plot-container') == 4
    assert drawn.count('class="scatterlayer') >= 2
    assert 'class="parcoords' in drawn
    assert drawn.count('class="point"') >= 16
