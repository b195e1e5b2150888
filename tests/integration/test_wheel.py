"""The wheel, installed in an environment of its own and used from a user's project folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from celltune.search.storage.locate import find_experiment
from tests.integration.conftest import REPOSITORY
from tests.integration.test_engine import CONFIG

SOURCES = ("api", "search", "models", "data_prep", "pyproject.toml", "README.md")
SHADOWING_MODULES = ("celltune", "random", "numpy", "torch", "ray", "search")
SHADOWING_PACKAGES = ("api", "models", "data_prep", "pydantic")
PLANTED = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
raise RuntimeError(__file__)
"""


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *(str(argument) for argument in arguments)], check=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel and this environment's dependencies."""
    root = tmp_path_factory.mktemp("wheel")
    # A copy, so that the build writes nothing into the checkout.
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, root / "source" / name)
        else:
            shutil.copy(REPOSITORY / name, root / "source" / name)
    # Without isolation pip downloads nothing.
    options = ["--no-build-isolation"] if int(version("setuptools").split(".")[0]) >= 77 else []
    pip("wheel", "--no-deps", *options, "--wheel-dir", root, root / "source")
    (wheel,) = root.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "env"], check=True)
    python = root / "env" / "bin" / "python"
    pip("--python", python, "install", "--no-deps", wheel)
    (packages,) = (root / "env").glob("lib/python*/site-packages")
    # Python ignores .pth files in a folder that a .pth file names, so the editable installation
    # of celltune there has no effect.
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose modules have the names of celltune's own and of installed packages.

    Each of them leaves a file `executed` in its folder when it is imported.
    """
    folder = tmp_path / "project"
    for name in SHADOWING_PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(PLANTED)
    for name in SHADOWING_MODULES:
        (folder / f"{name}.py").write_text(PLANTED)
    config = {**CONFIG, "budget": {"trials": 2, "max_epochs": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_nothing_is_imported_from_the_working_directory(
    python: Path, project: Path, env: dict[str, str]
) -> None:
    def run(*command: str | Path, cwd: Path, **changes: str) -> str:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**env, **changes},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    env.pop("PYTHONPATH", None)
    installed = run(python, "-c", "import celltune; print(celltune.__file__)", cwd=python.parent)
    assert Path(installed).is_relative_to(python.parents[1])
    command = python.with_name("celltune")
    run(command, "launch", "config.yaml", cwd=project)
    state = find_experiment("demo", Path(env["CELLTUNE_STORAGE"])).state()
    assert state.count("completed") == 2
    # Python itself finds celltune on the same path, so it cannot be shadowed in these cases.
    (project / "celltune.py").unlink()
    assert "demo" in run(command, "list", cwd=project, PYTHONPATH=":/nowhere")
    assert "demo" in run(python, "-m", "celltune", "list", cwd=project)
    assert not list(project.rglob("executed"))
