"""Changes of single keys: what they set and remove, and what is rejected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.config.overrides import (
    apply_overrides,
    check_changeable,
    is_changeable,
    key_of,
)
from celltune.search.errors import ConfigError


def changed(content: dict[str, Any], *overrides: str) -> dict[str, Any]:
    apply_overrides(content, overrides)
    return content


def test_a_key_can_be_removed() -> None:
    content = {"data": {"path": "x", "test_path": "y"}, "seed": 1}
    assert changed(content, "~data.test_path", "~seed") == {"data": {"path": "x"}}


def test_keys_are_removed_before_others_are_set_in_any_order() -> None:
    content: dict[str, Any] = {"data": {"vectors": {"path": "x"}}}
    expected = {"data": {"vectors": {"train": "word2vec"}}}
    assert changed(content, "data.vectors.train=word2vec", "~data.vectors") == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~data.test_pth", "The key 'data.test_pth' cannot be removed: data does not set 'test_pt"),
        ("~data.test_pth", "Did you mean 'test_path'? Its keys are: path, test_path."),
        ("~sed", "The key 'sed' cannot be removed: the config does not set 'sed'. Did you mean"),
        ("~data.path.x", "data.path does not set 'x'. Its keys are: none."),
        ("~", "The key '' cannot be removed: the config does not set ''."),
        ("seed", "`overrides` contains 'seed', which is not of the form key.path=value, such as"),
        ("a..b=1", "`overrides` contains 'a..b=1', which is not of the form"),
        ("seed=[", "`overrides` contains 'seed=[', whose value is not valid YAML"),
    ],
)
def test_invalid_changes_are_rejected(override: str, message: str) -> None:
    content = {"data": {"path": "x", "test_path": "y"}, "seed": 1}
    with pytest.raises(ConfigError) as caught:
        apply_overrides(content, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["/a/file #1.csv", "#1.csv", "[a, b] # two", "1 #"])
def test_a_value_that_ends_at_a_comment_is_rejected(text: str) -> None:
    content: dict[str, Any] = {}
    with pytest.raises(ConfigError) as caught:
        apply_overrides(content, [f"data.path={text}"])
    comment = text[text.index("#") :]
    assert f"whose value ends before '{comment}', because # begins a comment" in str(caught.value)
    assert "in single quotes for the shell: 'data.path=\"...\"'." in str(caught.value)
    assert content == {}


@given(st.text(st.sampled_from("ab #'"), max_size=8).map(lambda text: text.replace("'", "''")))
def test_a_quoted_value_may_contain_what_is_a_comment_elsewhere(text: str) -> None:
    assert changed({}, f"path='{text}'") == {"path": text.replace("''", "'")}


def test_what_a_later_run_may_change() -> None:
    assert key_of(" budget.time = 3m") == "budget.time"
    assert key_of("~data.test_path") == "data.test_path"
    assert is_changeable("data.test_path")
    assert not is_changeable("database")
    check_changeable("budget.time=3m")
    check_changeable("~data.test_path")
    with pytest.raises(ConfigError, match="`overrides` sets seed, which cannot be changed after t"):
        check_changeable("seed=3")
    with pytest.raises(
        ConfigError, match=r"The key space\.cell cannot be removed after the launch."
    ):
        check_changeable("~space.cell")
    with pytest.raises(ConfigError, match="A resume has its own arguments for trials, max_epochs"):
        check_changeable("budget.trials=3")
