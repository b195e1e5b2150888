"""The report in a headless browser, if one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from celltune.search.report.page import page
from tests.search.simulated_search import finished_search, make_config

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_renders_the_page_offline(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 16, "max_epochs": 4})
    path = tmp_path / "report.html"
    path.write_text(page(finished_search(tmp_path, config).snapshot()), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [str(CHROMIUM), *options, path.as_uri()],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in messages if re.search("Uncaught|Refused|Error", line)] == []
    dom = done.stdout
    assert dom.count('class="plot-container') == 4
    assert dom.count('class="scatterlayer') >= 2
    assert 'class="parcoords' in dom
    assert dom.count('class="point"') >= 16
