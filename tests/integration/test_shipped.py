"""The files that users run: configs, cluster.yaml, and the commands of the documentation."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import ray
import yaml
from jsonschema import Draft7Validator
from ray.autoscaler import __file__ as autoscaler

from celltune.search.config.loading import load_config
from tests.integration.conftest import REPOSITORY, Run
from tests.search.simulated_search import finished_search, make_config

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SEEDS = sorted((REPOSITORY / "configs" / "seeds").glob("*.yaml"))
WORDS = ("good fine great lovely", "bad dull poor awful")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small archive with the layout of the IMDB archive."""
    path = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(200):
            part = "test" if 80 <= number < 160 else "train"
            folder, rating = ("pos", 9) if number % 2 else ("neg", 2)
            folder, rating = ("unsup", 0) if number >= 160 else (folder, rating)
            text = " ".join([WORDS[number % 2 == 0], "film number", str(number)] * 3).encode()
            info = tarfile.TarInfo(f"aclImdb/{part}/{folder}/{number}_{rating}.txt")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return path


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    lines = [f"{WORDS[number % 2]} number {number},{1 - number % 2}" for number in range(80)]
    path.write_text("\n".join(["text,label", *lines]))
    return path


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    path = tmp_path / "amazon.gz"
    by_label = [{"books": [[*word.split(), str(n)] for n in range(40)]} for word in WORDS]
    path.write_bytes(gzip.compress(pickle.dumps((*by_label, ["good"]))))
    return path


def test_the_list_of_configs_is_complete() -> None:
    assert [path.name for path in CONFIGS] == [
        "amazon.yaml",
        "csv.yaml",
        "imdb-gpu.yaml",
        "imdb.yaml",
        "sample.yaml",
    ]
    assert [path.stem for path in SEEDS] == [
        "hw3-bilstm",
        "hw3-gru",
        "hw3-lstm",
        "hw3-rnn",
        "perf-bidirectional",
        "perf-lstm",
        "perf-multilayer",
        "sahin-gru",
        "sahin-grub",
        "sahin-gruh",
        "sahin-pmgru",
        "sayed-gru",
        "sayed-lstm",
        "sayed-rnn",
        "zhao-gru",
        "zhao-lstm",
    ]
    everything = set((REPOSITORY / "configs").rglob("*.yaml"))
    assert everything == {*CONFIGS, *SEEDS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_can_be_launched(
    path: Path,
    archive: Path,
    reviews: Path,
    pickled: Path,
    command: Run,
    tmp_path: Path,
) -> None:
    sources = {
        "imdb": ["--set", f"data.path={archive}"],
        "csv": ["--set", f"data.path={reviews}"],
        "amazon": ["--set", f"data.path={pickled}"],
        "synthetic": ["--set", "data.reviews=100"],
    }
    small = ["budget.trials=2", "budget.max_epochs=3", "resources.gpus_per_trial=0"]
    small += ["tracking.tensorboard=true"]
    overrides = [part for value in small for part in ("--set", value)]
    overrides += sources[load_config(path).data.source]
    done = command("launch", path, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(command("leaderboard", path.stem, "--format", "json").stdout)
    assert [row["status"] for row in rows].count("completed") >= 1
    boards = (tmp_path / "storage" / path.stem / "tensorboard").iterdir()
    assert sorted(board.name for board in boards) == ["trial-0", "trial-1"]


@pytest.fixture
def downloads(archive: Path, shared_cache: Path) -> Path:
    """The files that the configs in seeds/ would download, in the folder of downloads."""
    folder = shared_cache / "downloads"
    folder.mkdir(exist_ok=True)
    shutil.copy(archive, folder)
    with zipfile.ZipFile(folder / "glove.6B.zip", "w") as glove:
        for size in (50, 100):
            lines = [f"{word} {' '.join(['0.5'] * size)}" for word in " ".join(WORDS).split()]
            glove.writestr(f"glove.6B.{size}d.txt", "\n".join(lines))
    return folder


def test_all_seeds_can_be_compared(
    downloads: Path, reviews: Path, tmp_path: Path, command: Run
) -> None:
    """The working directory lacks some of the data files, so that substitutes are used."""
    (tmp_path / "amazon_multidomain.csv.gz").write_bytes(gzip.compress(reviews.read_bytes()))
    arguments = ["compare", SEEDS[0].parent, "--scale", "0.5"]
    arguments += ["--set", "data.tokenizer=basic_english", "--set", "data.valid_size=0.3"]
    arguments += ["--set", "budget.max_epochs=1", "--set", "space.hidden_size=16"]
    arguments += ["--format", "json"]
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [path.stem for path in SEEDS]
    for row in rows:
        assert row["measured_test_accuracy"] is not None, row
        assert row["stands_in"] == row["name"].startswith("sahin")
        assert (row["scale"], row["epochs"]) == (0.5, [1])
    again = command(*arguments, cwd=tmp_path)
    assert json.loads(again.stdout) == rows


@pytest.mark.parametrize("path", [*CONFIGS, *SEEDS], ids=lambda path: path.name)
def test_every_config_starts_with_a_comment_and_has_the_name_of_its_file(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert path.stem == load_config(path).name


def test_cluster_yaml_is_valid_for_the_installed_ray() -> None:
    cluster = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    schema = json.loads((Path(autoscaler).parent / "ray-schema.json").read_text())
    assert list(Draft7Validator(schema).iter_errors(cluster)) == []
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert f":{ray.__version__}-" in cluster["docker"]["image"]
    assert f"ray=={ray.__version__}" in (REPOSITORY / "constraints.txt").read_text()


def test_every_section_of_cluster_yaml_has_a_comment() -> None:
    lines = (REPOSITORY / "cluster.yaml").read_text().splitlines()
    for index, line in enumerate(lines):
        if re.match(r"[a-z_]+:", line):
            block = lines[max(0, index - 3) : index + 3]
            assert any(above.strip().startswith("#") for above in block), line


def commands_of(page: str = "README.md") -> list[str]:
    """Return the commands in the shell blocks of a page."""
    text = (REPOSITORY / page).read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_commands_of_the_readme_work(
    reviews: Path, address: str, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run each celltune command of README.md and docs/bundles.md in order, on small budgets."""
    small = "--set budget.trials=2 --set budget.max_epochs=2 --set early_stopping=null"
    small += " --set resources.concurrent_trials=1"
    commands = [
        # The pages write files of the same names.
        (tmp_path / folder, line)
        for folder, page in (("readme", "README.md"), ("bundles", "docs/bundles.md"))
        for line in commands_of(page)
        # test_object_store.py covers object stores.
        if line.startswith("celltune ") and "s3://" not in line
    ]
    assert len(commands) >= 20
    for folder, text in commands:
        if not folder.exists():
            folder.mkdir()
            (folder / "reviews.csv").write_bytes(reviews.read_bytes())
            (folder / "reviews.csv.gz").write_bytes(gzip.compress(reviews.read_bytes()))
        line = text.replace("HEAD:6379", address).replace("--trials +20", "--trials +1")
        line = line.replace("--max-epochs 12", "--max-epochs 3")
        line = line.replace("configs/", f"{REPOSITORY}/configs/")
        arguments = shlex.split(line)[1:]
        if arguments[0] == "launch":
            arguments += shlex.split(small)
        done = command(*arguments, cwd=folder)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        assert done.stdout, text
    monkeypatch.chdir(tmp_path / "bundles")
    text = (REPOSITORY / "docs" / "bundles.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, {})  # noqa: S102 (a page of this repository)


def test_the_commands_of_the_results_page_work(tmp_path: Path, command: Run) -> None:
    """Run each celltune command of docs/results.md in order."""
    finished_search(tmp_path / "storage", make_config(name="sample"))
    lines = commands_of("docs/results.md")
    commands = [line for line in lines if line.startswith("celltune ")]
    assert len(commands) >= 6
    for text in commands:
        line = text.replace("-o ", f"-o {tmp_path}/").replace("///", f"///{tmp_path}/")
        done = command(*shlex.split(line)[1:])
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        assert done.stdout, text


def test_the_commands_of_the_page_about_own_data_work(
    reviews: Path, tmp_path: Path, command: Run
) -> None:
    """Run the celltune commands of docs/own-data.md in order; README.md has the others, too."""
    tested = [line for line in commands_of() if not line.startswith("celltune init")]
    lines = [line for line in commands_of("docs/own-data.md") if line not in tested]
    commands = [shlex.split(line.replace("+8", "+1"))[1:] for line in lines]
    assert [arguments[0] for arguments in commands].count("launch") == 1
    small = ["budget.trials=2", "budget.max_epochs=1", "early_stopping=null", "baselines=false"]
    (tmp_path / "vectors.txt").write_text("number 0.1 0.2 0.3 0.4\n")
    for arguments in commands:
        extra = [f"--set={each}" for each in small if arguments[0] == "launch"]
        done = command(*arguments, *extra, cwd=tmp_path)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        assert done.stdout, arguments
    assert {"reviews.yaml", "short.yaml", "model"} <= {path.name for path in tmp_path.iterdir()}


def test_the_commands_of_the_page_about_clusters_work(
    address: str, command: Run, tmp_path: Path
) -> None:
    """Run the celltune commands of docs/clusters.md in order, except those of object stores."""
    lines = [line for line in commands_of("docs/clusters.md") if line.startswith("celltune ")]
    small = ["budget.trials=1", "budget.max_epochs=2", "data.reviews=100", "baselines=false"]
    small += ["resources.gpus_per_trial=0"]
    for text in lines:
        if "s3://" in text:
            continue
        line = text.replace("HEAD:6379", address).replace("/shared", str(tmp_path))
        arguments = shlex.split(line.replace("+4", "+1"))[1:]
        extra = [f"--set={each}" for each in small if arguments[0] in ("launch", "validate")]
        done = command(*arguments, *extra)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        assert done.stdout, text


def test_the_python_example_of_the_readme_works(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLTUNE_STORAGE", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    text = (REPOSITORY / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)  # noqa: S102 (a page of this repository)
    assert "result" in names


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = [line.split()[1] for line in commands_of() if line.startswith("make ")]
    assert {"search", "test", "check"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
