"""The counter of style faults in `benchmarks/prose.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._prose import blocks, dialect_words, is_headless, sentences, word_count

HEADLESS = [
    "What is there while someone asks the driver to stop.",
    "What a search came to, in numbers that say how sure they are.",
    "Whether the trial goes on.",
    "How many tokens were cut out.",
    "Where the gap stands.",
    "Who holds the lease.",
    "Which texts hold a token, and which of them a known word.",
    "Those of the inner source.",
    "When it was written.",
]
PROPER = [
    "What cannot be read is skipped.",
    "What is the best trial?",
    "Where the machine has no compiler, numpy does the work.",
    "Whatever happens, the ledger stays valid.",
    "Whether a trial was pruned is stored in the ledger.",
    "When a worker is lost, its trial is retried.",
    "If the file is missing, the search stops.",
    "That holds for every tokenizer.",
    "That directory is created on first use.",
    "One of the files is missing.",
    "How to add a tokenizer.",
    "Which is why the order matters.",
    "Return the trials in rank order.",
    "The folder that contains all experiments.",
    "whether to shuffle the documents.",
]


@pytest.mark.parametrize("sentence", HEADLESS)
def test_relative_clause_without_main_clause_is_headless(sentence: str) -> None:
    assert is_headless(sentence)


@pytest.mark.parametrize("sentence", PROPER)
def test_complete_sentence_is_not_headless(sentence: str) -> None:
    assert not is_headless(sentence)


def test_dialect_words_are_found_as_whole_words() -> None:
    text = "It stands there, told so many times; the understanding lies in the standard."
    assert dialect_words(text) == ["stands", "told", "so many", "lies"]


def test_python_prose_is_docstrings_comments_and_messages(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""Module of `code`."""\n\n'
        'LIMIT = 1\n"""Attribute docstring."""\n\n\n'
        "def f(x):\n"
        '    """Return something.\n\n    Args:\n        x: what to read.\n    """\n'
        "    # A comment\n    # of two lines.\n"
        "    key = 'not prose'  # noqa: S101\n"
        "    raise ValueError(f'The value {x} is wrong. ' 'Give another.')\n"
    )
    assert {" ".join(block.text.split()) for block in blocks(path)} == {
        "Module of X.",
        "Attribute docstring.",
        "Return something.",
        "what to read.",
        "A comment of two lines.",
        "The value X is wrong. Give another.",
    }


def test_markdown_prose_leaves_out_code_and_marks_headings(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "# What it costs\n\nA paragraph\nof two lines.\n\n```bash\nrun this now\n```\n\n"
        "- an [item](link.md)\n- another\n\n| key | meaning |\n| --- | --- |\n"
    )
    found = list(blocks(path))
    texts = [" ".join(block.text.split()) for block in found]
    assert texts == [
        "What it costs",
        "A paragraph of two lines.",
        "an item",
        "another",
        "key",
        "meaning",
    ]
    assert [block.is_heading for block in found] == [True, *[False] * 5]
    assert found[1].line == 3


def test_cpp_prose_is_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "code.cpp"
    path.write_text("// Two lines\n// of one comment.\nint x;  // Another one.\n")
    assert [block.text for block in blocks(path)] == [
        "Two lines\nof one comment.",
        "Another one.",
    ]


def test_text_is_split_into_sentences_and_words() -> None:
    text = "The first one. The second: a part; the end"
    assert sentences(text) == ["The first one.", "The second:", "a part;", "the end"]
    assert word_count("It can't count 12 or --flags") == 5
