"""What commands about configs and storages show of hostile text."""

from __future__ import annotations

import json
from typing import Any

from tests.search.hostile_text import EVERYTHING, HOSTILE, shown


def config(place: Any) -> None:
    assert "is not a key of a config" in place.text("config", "explain", EVERYTHING, code=2)
    assert json.loads(place.content("config", "schema"))["type"] == "object"


def housekeeping(place: Any) -> None:
    place.text("du")
    out = place.text("logs", "hostile")
    for text in HOSTILE:
        assert f"failed: {shown(text)[:3_000]}" in out
    place.text("logs", HOSTILE[0], code=2)
    place.text("copy", "hostile", "copied")
    place.text("copy", "hostile", HOSTILE[0], code=2)
    place.text("prune", "copied", "--yes")
    place.text("delete", "copied", "--yes")
    place.text("delete", HOSTILE[0], "--yes", code=2)
