from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from celltune.search.config.loading import dump_config, load_config, parse_config, resolve
from celltune.search.config.schema import SearchConfig
from celltune.search.config.space import Choice, Range
from celltune.search.errors import ConfigError
from tests.search.simulated_search import RAW, make_config


def errors_of(**changes: Any) -> str:
    with pytest.raises(ConfigError, match="The config has") as caught:
        make_config(**changes)
    return str(caught.value)


def test_a_dumped_config_can_be_loaded(tmp_path: Path) -> None:
    config = make_config()
    path = tmp_path / "experiment.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert set(yaml.safe_load(dump_config(config))) == set(SearchConfig.model_fields)


def test_a_dumped_config_does_not_name_default_implementations() -> None:
    plain = yaml.safe_load(dump_config(make_config()))
    assert plain["sampler"] == {"startup_trials": 4}
    assert list(plain["early_stopping"].items()) == [
        ("grace_period", 1),
        ("reduction_factor", 2.0),
        ("by", "valid_loss"),
    ]
    assert make_config(sampler={"name": "tpe", "startup_trials": 4}) == make_config()
    off = make_config(early_stopping=None)
    assert yaml.safe_load(dump_config(off))["early_stopping"] is None


def test_a_config_is_validated_without_heavy_imports() -> None:
    code = (
        "import sys\n"
        "from celltune.search.config.loading import parse_config\n"
        "parse_config({'name': 'x', 'data': {'source': 'synthetic'}, 'space': {'cell': 'gru'}})\n"
        "print(*{'ray', 'torch', 'optuna', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_all_errors_are_reported_at_once_with_the_closest_names() -> None:
    text = errors_of(
        sed=1,
        name="a b",
        data={"source": "csv", "path": "x.csv", "label_colum": "y"},
        space={"cell": ["gruu"], "hiden_size": 3, "dropout": 1.5},
        budget={"trails": 3, "trials": "many"},
    )
    lines = text.splitlines()
    assert lines[0] == "The config has 8 errors:"
    for expected in (
        "sed is unknown. Did you mean 'seed'?",
        "name is 'a b'. Use up to 100 letters, digits,",
        "data.label_colum is unknown. Did you mean 'label_column'?",
        "space.cell.0: 'gruu' is not a cell. Did you mean 'gru'?",
        "space.hiden_size is not a hyperparameter. Did you mean 'hidden_size'?",
        "space.dropout is 1.5. It must be below 1.",
        "budget.trails is unknown. Did you mean 'trials'?",
        "budget.trials is 'many'. It must be a whole number.",
    ):
        assert any(line.strip().startswith(expected) for line in lines), expected


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"hidden_size": {"low": 64, "high": 16}}, "hidden_size is inverted: low 64 is above"),
        ({"hidden_size": {"low": 8, "high": 8}}, "hidden_size is empty: low and high are both 8"),
        ({"hidden_size": {"low": 8}}, "hidden_size.high is missing. A"),
        ({"hidden_size": {"low": 8.5, "high": 16}}, "hidden_size.low is 8.5. It must be a whole"),
        ({"hidden_size": {"low": 0, "high": 16}}, "hidden_size.low is 0. It must be at least 1"),
        ({"hidden_size": {"low": 8, "high": 16, "step": 9}}, "hidden_size has the step 9."),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "dropout is logarithmic, so low must"),
        (
            {"learning_rate": {"low": 0.1, "high": 0.5, "log": True, "step": 0.1}},
            "learning_rate is logarithmic, so it cannot have a step. Remove",
        ),
        ({"dropout": {"low": 0, "high": 0.5, "lgo": 1}}, "dropout.lgo is unknown. Did you mean"),
        ({"dropout": {"low": 0, "high": 0.5, "log": "x"}}, "dropout.log is 'x'. It must be true"),
        (
            {"bidirectional": {"low": 0, "high": 1}},
            "bidirectional is not a number, so it cannot be a range.",
        ),
        ({"num_layers": []}, "num_layers is an empty choice."),
        (
            {"num_layers": [1, 2, 1, 1]},
            "num_layers contains 1 more than once.",
        ),
        ({"bidirectional": 1}, "bidirectional is 1. It must be true or false."),
        ({"optimizer": "lion"}, "optimizer is 'lion'. It must be 'adam', 'adamw' or 'sgd'."),
        ({"num_layers": [1, "two"]}, "num_layers.1 is 'two'. It must be a whole"),
        ({"hidden_size": True}, "hidden_size is true. It must be a whole number."),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'. It must be a number."),
    ],
)
def test_invalid_spaces_are_rejected(space: dict[str, Any], expected: str) -> None:
    assert f"space.{expected}" in errors_of(space={"cell": "gru", **space})


def test_a_space_without_required_hyperparameters_is_rejected() -> None:
    assert "space.cell is missing. It has no default value." in errors_of(space={})
    assert "space is [1]. It must map hyperparameters to values." in errors_of(space=[1])


def test_inconsistent_values_are_rejected() -> None:
    text = errors_of(early_stopping={"grace_period": 9})
    assert "early_stopping.grace_period is 9, above budget.max_epochs, which is 4. Set it" in text
    text = errors_of(resources={"cpus_per_trial": float("inf")})
    assert "resources.cpus_per_trial is inf. It must be a finite number." in text
    text = errors_of(resources={"trials_per_worker": 0})
    assert "resources.trials_per_worker is 0. It must be at least 1." in text
    text = errors_of(resources={"trials_per_worker": 8, "concurrent_trials": 4})
    assert "resources.trials_per_worker is 8, but resources.concurrent_trials allows only 4" in text
    text = errors_of(early_stopping={"reduction_factor": 1e308})
    assert "early_stopping.reduction_factor is 1e+308. It must be at most 100." in text
    text = errors_of(budget={"trials": True, "max_epochs": "4"}, seed=True)
    assert text.splitlines()[0] == "The config has 3 errors:"
    assert "  name is 5. It must be text." in errors_of(name=5)
    assert "  budget is 3. It must be a mapping of keys to values." in errors_of(budget=3)
    tracking = errors_of(tracking={"tensorboard": 3})
    assert tracking.splitlines()[1:] == [
        "  tracking.tensorboard is 3. It must be true, false, or a folder."
    ]
    text = errors_of(resources={"cpus_per_trial": 1.5})
    assert "  resources.cpus_per_trial is 1.5. Above 1, it must be a whole number." in text


def test_the_largest_trials_of_a_space_have_the_highest_numbers() -> None:
    space = make_config(
        space={
            "cell": ["gru", "mgu"],
            "hidden_size": {"low": 8, "high": 32},
            "num_layers": [3, 1],
            "bidirectional": [True, False],
            "batch_tokens": [1000, None],
            "readout": ["mean", "max"],
            "dropout": {"low": 0.0, "high": 0.5},
            "embedding_size": 50,
        }
    ).space
    largest = list(space.largest())
    assert {(params["cell"], params["readout"]) for params in largest} == {
        ("gru", "mean"),
        ("gru", "max"),
        ("mgu", "mean"),
        ("mgu", "max"),
    }
    for params in largest:
        numbers = {name: params[name] for name in params if name not in ("cell", "readout")}
        assert numbers == {
            "hidden_size": 32,
            "num_layers": 3,
            "bidirectional": True,
            "batch_tokens": None,
            "dropout": 0.5,
            "embedding_size": 50,
        }


def test_a_space_lists_the_values_of_a_hyperparameter() -> None:
    space = make_config(space={"cell": ["gru", "mgu"], "precision": "tf32"}).space
    assert space.values("cell") == ("gru", "mgu")
    assert space.values("precision") == ("tf32",)
    assert space.values("optimizer") == ("adam",)


def test_a_space_can_contain_values_choices_and_ranges() -> None:
    space = make_config(
        space={
            "cell": ["gru", "mgu"],
            "hidden_size": {"low": 8, "high": 32, "step": 8},
            "dropout": {"low": 0, "high": 0.5},
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "num_layers": [2],
            "bidirectional": True,
        }
    ).space
    assert space.searched == {
        "cell": Choice(("gru", "mgu")),
        "hidden_size": Range(8, 32, step=8, integer=True),
        "dropout": Range(0, 0.5),
        "learning_rate": Range(1e-4, 1e-2, log=True),
    }
    assert space.fixed == {"num_layers": 2, "bidirectional": True}


def test_a_conditional_hyperparameter_is_suggested_only_if_active() -> None:
    class Lowest:
        def suggest_categorical(self, name: str, choices: Any) -> Any:
            return choices[0]

        def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
            return low

        def suggest_float(
            self, name: str, low: float, high: float, *, step: float | None, log: bool
        ) -> float:
            return low

    space = {**RAW["space"], "num_layers": [1, 2]}
    assert "layer_dropout" not in make_config(space=space).space.suggest(Lowest())
    space["num_layers"] = [2, 1]
    assert make_config(space=space).space.suggest(Lowest())["layer_dropout"] == 0.0
    space["num_layers"] = 1
    assert "layer_dropout" not in make_config(space=space).space.suggest(Lowest())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


MINIMAL = "name: x\ndata: {source: synthetic}\nspace: {cell: gru, learning_rate: 1e-3}\n"


def test_numbers_may_have_an_exponent_without_a_dot(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "c.yaml", MINIMAL), ["budget.trials=5", "seed=7"])
    assert config.space.fixed["learning_rate"] == 0.001
    assert (config.budget.trials, config.seed) == (5, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [\n", "is not valid YAML: line 2, column 1: expected the node content"),
        ("", "must map keys to values .* it contains nothing"),
        ("- 1\n", "must map keys to values .* it contains a list"),
    ],
)
def test_files_without_a_config_are_rejected(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "c.yaml", text))


def test_unreadable_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "latin.yaml")
    os.mkfifo(tmp_path / "fifo")
    for special in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="Not a regular file"):
            load_config(special)
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ConfigError, match="cannot be read: Larger than 1,048,576 bytes"):
        load_config(tmp_path / "large.yaml")


def test_messages_are_short_and_show_no_passwords() -> None:
    long = "x" * 1_000_000
    text = errors_of(
        name=long,
        sampler={long: 1},
        space={"cell": long, "hidden_size": [long], long: 3},
        data={"source": long, "classes": [long + " "], "valid_size": long},
        tracking={"mlflow": ["https://user:secret@host"], "tensorboard": long},
        **{long: 1, "x": {"y": 1}},
    )
    assert len(text.splitlines()) > 8
    assert max(map(len, text.splitlines())) < 1200
    assert "secret" not in text
    with pytest.raises(ConfigError, match="`overrides` contains 'xxx") as caught:
        parse_config(RAW, overrides=[long])
    assert len(str(caught.value)) < 200
    many = errors_of(**{f"key{number}": 1 for number in range(300)})
    assert many.splitlines()[-1] == "  and 250 more"


def test_an_invalid_name_is_attributed_to_the_argument_or_the_config() -> None:
    rule = "Use up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit."
    assert f"  name is 'a/b'. {rule}" in errors_of(name="a/b")
    with pytest.raises(ConfigError, match="`name` is 'a/b'"):
        resolve(RAW, name="a/b")
    assert resolve(RAW, ["name=x"], name="1e5").name == "1e5"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "`overrides` contains .* not of the form key.path=value"),
        ("=3", "`overrides` contains .* not of the form key.path=value"),
        ("budget.trials=[", "whose value is not valid YAML"),
        ("budget.trails=3", "budget.trails is unknown. Did you mean 'trials'"),
    ],
)
def test_invalid_overrides_are_rejected(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(RAW, overrides=[override])


def test_overrides_do_not_modify_the_given_config() -> None:
    parse_config(RAW, overrides=["budget.trials=3", "space.hidden_size.low=8"])
    assert RAW["budget"]["trials"] == 12
    assert RAW["space"]["hidden_size"]["low"] == 4


def test_a_threshold_is_chosen_for_a_metric_of_the_predicted_classes() -> None:
    text = errors_of(threshold="valid_auroc")
    assert "threshold is valid_auroc, which does not depend on the predicted classes only." in text
    assert "'valid_f' is not a metric" in errors_of(threshold="valid_f")
    text = errors_of(calibration="isotonic")
    assert "calibration is 'isotonic'. It must be 'temperature'." in text
    config = make_config(threshold="valid_macro_f1", calibration="temperature")
    assert (config.threshold, config.calibration) == ("valid_macro_f1", "temperature")
