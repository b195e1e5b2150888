"""Configs that are proposed: what depends on the data, and that the text loads again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.data_prep.preparation.survey import Survey
from celltune.search.config.loading import parse_config
from celltune.search.config.rules import check_schedule
from celltune.search.setup.proposal import (
    Described,
    Machine,
    Proposal,
    Surveys,
    Wishes,
    proposal_for,
)
from tests.search.setup.surveys import survey

MACHINE = Machine(cores=2, memory=24 * 2**30)
CLASS_NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20
).map(str.strip)


def proposed(
    words: Survey,
    tokens: Survey | None = None,
    *,
    values: dict[str, Any] | None = None,
    reasons: dict[str, str] | None = None,
    seconds: float | None = None,
    memory: int = MACHINE.memory,
) -> Proposal:
    counts = [int(count) for count in sum(words.counts.values())]
    described = Described({"path": "a.csv", **(values or {})}, reasons or {}, counts)
    return proposal_for(
        Surveys(words, tokens or words), described, Wishes("mine", seconds), Machine(2, memory)
    )


def test_the_proposal_is_the_measured_recipe() -> None:
    values = proposed(survey()).values
    config = parse_config(values)
    assert config.name == "mine"
    assert config.metric == "valid_loss"
    assert values["space"]["wide"] == "add"
    assert values["first_trials"][0] == {"wide": "only"}
    assert config.space.contains({**config.space.fixed, **dict(config.first_trials[1])})
    assert values["data"]["vectors"] == {"train": "word2vec"}
    assert values["budget"] == {"trials": 8, "max_epochs": 6, "epoch_patience": 2}
    assert values["early_stopping"] is None


def test_comments_have_counts_lengths_reasons_and_the_expected_duration() -> None:
    text = proposed(
        survey((1_500, 500)),
        values={"classes": ["no", "yes"], "text_column": "body", "valid_size": 0.2},
        reasons={"text_column": "the column with the longest texts"},
    ).yaml
    assert "- 'no'" in text
    assert "# 1,500 texts\n" in text
    assert "# 500 texts\n" in text
    assert "text_column: body" in text
    assert "# the column with the longest texts\n" in text
    assert "half of the texts have at most" in text
    assert "4.0 % of the validation split's words are unknown" in text
    assert "the training texts have 9,000 different words" in text
    assert "400 texts rank the trials: only large differences between them count" in text
    assert " s on 2 cores" in text


def test_the_summary_has_the_reasons_of_what_was_chosen() -> None:
    assert proposed(survey(), values={"tokenizer": "whitespace"}).lines() == [
        "Proposed:",
        "  data.tokenizer   whitespace",
        "  data.max_tokens  288  (half of the texts have at most 150 tokens, 95 % at most 285; "
        "5.0 % of the texts are cut)",
        "  metric           valid_loss  (it has fewer ties than the accuracy)",
        "  budget           8 trials of up to 6 epochs  (about 61 s on 2 cores)",
    ]


def test_many_classes_are_summarized_and_take_few_lines() -> None:
    names = [f"topic {index}" for index in range(300)]
    text = proposed(survey([20] * 300), values={"classes": names}).yaml
    assert "300 classes of 20 texts each" in text
    assert len(text.splitlines()) < 110
    uneven = proposed(survey([20] * 299 + [31]), values={"classes": names}).yaml
    assert "300 classes of 20 to 31 texts" in uneven


@pytest.mark.parametrize(
    ("counts", "metric", "remark"),
    [
        ((800, 800), "valid_loss", "it has fewer ties than the accuracy"),
        ((2_000, 500), "valid_loss", r"uneven \(4 : 1\); valid_macro_f1 would"),
        ((3_000, 200), "valid_macro_f1", r"uneven \(15 : 1\); macro-F1 weighs"),
    ],
)
def test_the_metric_depends_on_how_uneven_the_classes_are(
    counts: tuple[int, int], metric: str, remark: str
) -> None:
    proposal = proposed(survey(counts))
    assert proposal.values["metric"] == metric
    weights = ["none", "balanced"] if metric == "valid_macro_f1" else None
    assert proposal.values["space"].get("class_weights") == weights
    lines = proposal.yaml.splitlines()
    start = lines.index("seed: 1")
    assert re.search(remark, " ".join(lines[start : start + 4]))


def test_trials_with_and_without_weights_are_compared_by_the_metric() -> None:
    assert proposed(survey((9_000, 200), length=20)).values["early_stopping"] == {
        "grace_period": 2,
        "by": "valid_macro_f1",
    }
    even = proposed(survey((4_000, 4_000), length=20))
    assert even.values["early_stopping"] == {"grace_period": 2}


def test_subwords_are_proposed_with_the_reason() -> None:
    words = survey(unknown_share=0.22)
    data = proposed(words, survey(unknown_share=0.001)).values["data"]
    assert (data["tokenizer"], data["lowercase"], data["vocabulary_size"]) == ("bpe", True, 8_000)
    text = proposed(words, survey(unknown_share=0.001)).yaml
    assert "22.0 % of the validation split's words are unknown, and 0.1 % of the subwords" in text


def test_keys_that_are_given_stay_as_they_are() -> None:
    values = {"tokenizer": "whitespace", "max_tokens": 17, "wide": False, "valid_size": 40}
    proposal = proposed(survey(), values=values)
    loaded = proposal.values
    assert {key: loaded["data"][key] for key in values} == values
    assert "wide" not in loaded["space"]
    assert {"wide": "only"} not in loaded["first_trials"]
    assert parse_config(loaded).data.max_tokens == 17


def test_hundreds_of_classes_have_a_wide_part_only_on_request() -> None:
    many = survey([200] * 500)
    reason = "a linear model of 500 classes would take too long"
    proposal = proposed(many)
    assert proposal.values["data"]["wide"] is False
    assert reason in proposal.yaml
    assert parse_config(proposal.values).data.wide is None
    requested = proposed(many, values={"wide": True})
    assert parse_config(requested.values).data.wide is not None
    assert requested.values["first_trials"][0] == {"wide": "only"}
    assert reason not in requested.yaml


def test_a_wide_part_that_exceeds_the_memory_gets_fewer_ngrams() -> None:
    proposal = proposed(survey((20_000, 20_000)), memory=2**31)
    assert proposal.values["data"]["wide"] == {"words": 2, "characters": 0}
    assert "longer n-grams would take" in proposal.yaml


def test_a_given_time_is_the_limit_of_the_search() -> None:
    assert proposed(survey(), seconds=1_800).values["budget"]["time"] == "30m"
    assert "time" not in proposed(survey()).values["budget"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(2, 20_000), min_size=2, max_size=30),
    st.integers(1, 1_500),
    st.one_of(st.none(), st.floats(1, 90_000)),
    st.data(),
)
def test_every_proposal_is_a_valid_config_with_the_names_of_the_data(
    counts: list[int], length: int, seconds: float | None, data: st.DataObject
) -> None:
    names = data.draw(
        st.lists(CLASS_NAMES.filter(bool), min_size=len(counts), max_size=len(counts), unique=True)
    )
    column, reason = data.draw(CLASS_NAMES.filter(bool)), data.draw(st.text(max_size=60))
    values = {"classes": names, "text_column": column}
    loaded = proposed(
        survey(counts, length=length),
        values=values,
        reasons={"text_column": reason},
        seconds=seconds,
    ).values
    config = parse_config(loaded)
    assert config.data.classes == tuple(names)
    assert config.data.text_column == column
    check_schedule(config.space, config.first_trials)
