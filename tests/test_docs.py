"""The pages that are made from the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from celltune.data_prep.config import DataConfig
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.search.cli.app import app
from celltune.search.config.schema import SearchConfig
from celltune.search.tuning.asha import AshaSettings
from celltune.search.tuning.tpe import TPESettings

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", REPOSITORY / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_commands_pages_are_what_the_code_says_now(maker: ModuleType) -> None:
    kept = {path.name: path.read_text() for path in maker.COMMANDS.iterdir()}
    made = maker.pages()
    assert sorted(kept) == sorted(made), "run: make docs"
    stale = [name for name, text in made.items() if kept[name] != text]
    assert stale == [], "run: make docs"


def test_every_command_has_a_page_with_all_its_options(maker: ModuleType) -> None:
    made = maker.pages()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for page, each in getattr(command, "commands", {"": command}).items():
            file = f"{name}-{page}.md" if page else f"{name}.md"
            text = made[file]
            for parameter in each.params:
                for option in parameter.opts:
                    assert parameter.param_type_name == "argument" or option in text
            assert f"]({file})" in made["README.md"]


def test_the_page_of_config_keys_is_what_the_code_says_now(maker: ModuleType) -> None:
    assert maker.CONFIG.read_text() == maker.config_page(), "run: make docs"


def test_the_page_of_config_keys_has_every_key(maker: ModuleType) -> None:
    page = maker.config_page()
    models = [SearchConfig, DataConfig, ModelConfig, TrainingConfig, AshaSettings, TPESettings]
    names = [name for model in models for name in model.model_fields]
    assert len(names) > 70
    assert [name for name in names if f"\n| `{name}`" not in page] == []


def test_the_maker_writes_every_page_and_removes_old_ones(
    maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "COMMANDS", tmp_path / "commands")
    monkeypatch.setattr(maker, "CONFIG", tmp_path / "config.md")
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "gone.md").write_text("old")
    maker.main()
    made = maker.pages()
    assert {path.name: path.read_text() for path in (tmp_path / "commands").iterdir()} == made
    assert maker.CONFIG.read_text() == maker.config_page()


def test_links_between_our_pages_lead_somewhere() -> None:
    roots = [REPOSITORY / name for name in ("README.md", "SECURITY.md")]
    for page in [*roots, *(REPOSITORY / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
