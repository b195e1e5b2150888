"""Whatever a config contains: it is valid, or rejected with a line for each problem."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.search.config.yaml_text import dump_yaml, parse_yaml
from tests.search.command_line import run

REPOSITORY = Path(__file__).parents[3]
SHIPPED = [parse_yaml(path.read_bytes()) for path in sorted(REPOSITORY.glob("configs/*.yaml"))]

LONGEST_LINE = 1300
SECONDS = 10
"""Limit for one config on a busy machine; a quiet one takes less than 0.2 s."""

ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 2, 10**12, 10**90, 0.5, 1e-300, 5e-324, 1e308),
        *(float("nan"), float("inf"), "", "none", "~no-such-user/x", "/dev/zero", "a\x1b[31m\nb"),
        *("x" * 10_000, "1e5", "0.9", "30m", "1" * 400 + "d", "http://user:secret@host"),
        *("s3://key:secret@bucket/x", [], {}, [[]], [1, 1], [True, 1], ["a", "b"], "only"),
        *({"low": 1, "high": 0}, {"low": 1e-320, "high": 1e308, "log": True}, {"a": {"b": 1}}),
        *({"low": 0.1, "high": 0.9, "step": 1e-320}, {"low": float("nan"), "high": 1.0}),
        *({"rule": 5}, {"name": [1]}, {"source": "csv", "path": "none.csv"}),
    ]
)
NAMES = st.sampled_from(
    ["name", "data", "space", "budget", "time", "wide", "cell", "low", "x", "", "a.b", "\x1b"]
)
ANY = st.recursive(
    ODD | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def sections(value: Any) -> list[dict[str, Any]]:
    """Return all mappings within a value, the outermost first."""
    members = value.values() if isinstance(value, dict) else value
    nested = [s for m in members if isinstance(m, (dict, list)) for s in sections(m)]
    return [value, *nested] if isinstance(value, dict) else nested


@st.composite
def configs(draw: st.DrawFn) -> Any:
    """Return anything, or a shipped config with some changed, added or removed keys."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANY)
    config = copy.deepcopy(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(sections(config)))
        key = draw(st.sampled_from(sorted(section)) | NAMES if section else NAMES)
        if draw(st.integers(0, 4)):
            section[key] = draw(ANY)
        else:
            section.pop(key, None)
    return config


@given(config=configs(), cut=st.none() | st.floats(0, 1))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_config_is_valid_or_rejected_with_a_line_for_each_problem(
    config: Any,
    cut: float | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    text = dump_yaml(config)
    (tmp_path / "c.yaml").write_text(text if cut is None else text[: int(cut * len(text))])
    start = time.monotonic()
    code, out, err = run(capsys, monkeypatch, "validate", "c.yaml")
    assert time.monotonic() - start < SECONDS
    assert code in (0, 2)
    assert "secret" not in out + err
    if code == 0:
        assert out.endswith("c.yaml is valid.\n")
        return
    first, *problems = err.splitlines()
    assert first.startswith("celltune: ")
    assert all(line.startswith("  ") for line in problems)
    assert max(map(len, [first, *problems])) < LONGEST_LINE
