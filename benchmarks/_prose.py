"""Prose of source files and Markdown pages, and the style faults that can be counted in it.

`blocks` extracts docstrings, comments, messages and paragraphs; `is_headless` and `dialect_words`
examine them. A sentence is headless if it begins as a relative clause and has no main clause, such
as "What is left of the budget." Descriptions of arguments in lower case ("whether to shuffle") are
not sentences. The check is a heuristic: it compares the number of finite verbs with the number of
words that introduce a clause.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".py", ".cpp", ".h", ".md")

DIALECT = re.compile(
    r"\b(stands?(?! for\b|-?in\b)|told|tells?|lies?|so (?:many|much|long)|anew|mend(?:s|ed|ing)?"
    r"|(?:came|come|comes) of|the person|wish(?:es|ed)?|house|manners)\b",
    re.IGNORECASE,
)
"""Words and phrases that the project's style replaces by plainer ones."""


@dataclass(frozen=True)
class Block:
    """A paragraph, list item, comment or message; `code` is replaced by X."""

    line: int
    text: str
    is_heading: bool = False


def blocks(path: Path) -> Iterator[Block]:
    """Yield the prose of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _strings(text)
        yield from _python_comments(text)
    elif path.suffix == ".md":
        yield from _markdown(text)
    else:
        yield from _cpp_comments(text)


def word_count(text: str) -> int:
    """Return the number of words in a text."""
    return len(re.findall(r"[A-Za-z][A-Za-z'\u2019]*", text))


def dialect_words(text: str) -> list[str]:
    """Return the words of `DIALECT` that a text contains."""
    return [match.group().lower() for match in DIALECT.finditer(text)]


def sentences(text: str) -> list[str]:
    """Split a text at full stops, question marks, exclamation marks, colons and semicolons."""
    joined = " ".join(text.split())
    cut = re.split(r"(?<=[.!?;])[\"')*]*\s+(?=\S)|(?<=:)\s+|\s+[\u2013\u2014-]\s+", joined)
    return [part.strip(" *\"'(") for part in cut if part.strip()]


# --- Extraction ---------------------------------------------------------------------------------


def _strings(text: str) -> Iterator[Block]:
    """Yield docstrings and string literals of at least three words."""
    tree = ast.parse(text)
    docstrings = {
        id(node.value): node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for docstring in docstrings.values():
        yield from _docstring(str(docstring.value), docstring.lineno)
    within = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in docstrings or id(node) in within:
            continue
        if isinstance(node, ast.JoinedStr):
            literal = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            literal = node.value
        else:
            continue
        if re.search(r"[A-Za-z']+ [A-Za-z']+,? [A-Za-z']+", literal):
            yield from _paragraphs(literal, node.lineno)


def _docstring(text: str, line: int) -> Iterator[Block]:
    """Yield a docstring's paragraphs and entries, without the names of arguments."""
    entries = re.sub(
        r"(?m)^(\s*)(?:\*{0,2}\w[\w., ]*(?: \([^)]*\))?: (?=[\w`(])|\w+ {2,}|\w+:$)",
        r"\n\1",
        text,
    )
    yield from _paragraphs(entries, line)


def _paragraphs(text: str, line: int) -> Iterator[Block]:
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", text):
        if paragraph.strip():
            yield Block(line, _without_code(paragraph))


def _without_code(text: str) -> str:
    text = re.sub(r"``[^`]+``|`[^`]+`", "X", text)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _python_comments(text: str) -> Iterator[Block]:
    comments = [
        (token.start[0], token.string[1:].strip(), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from _joined_comments(comments)


def _cpp_comments(text: str) -> Iterator[Block]:
    comments = []
    for number, line in enumerate(text.splitlines(), 1):
        code, mark, comment = line.partition("//")
        if mark:
            comments.append((number, comment.strip(), not code.strip()))
    yield from _joined_comments(comments)


def _joined_comments(comments: list[tuple[int, str, bool]]) -> Iterator[Block]:
    """Yield comments, those on consecutive lines of their own as one block."""
    joined: list[tuple[int, int, str]] = []
    for number, comment, alone in comments:
        if re.match(r"type:|noqa|pragma|mypy:|ruff:|!", comment):
            continue
        if alone and joined and joined[-1][1] == number - 1:
            joined[-1] = (joined[-1][0], number, f"{joined[-1][2]}\n{comment}")
        else:
            joined.append((number, number if alone else -1, comment))
    for number, _, comment in joined:
        yield Block(number, _without_code(re.sub(r"\s*noqa:.*", "", comment)))


def _markdown(text: str) -> Iterator[Block]:
    lines: list[str] = []
    begin, fenced = 1, False

    def flush() -> Iterator[Block]:
        if any(line.strip() for line in lines):
            yield Block(begin, _without_code("\n".join(lines)))
        lines.clear()

    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            yield from flush()
        elif fenced or (line.startswith("    ") and not lines):
            continue
        elif line.startswith("#"):
            yield from flush()
            yield Block(number, _without_code(line.lstrip("# ")), is_heading=True)
        elif line.lstrip().startswith("|"):
            yield from flush()
            cells = _without_code(line).split("|")
            yield from (Block(number, cell) for cell in cells if word_count(cell))
        else:
            bullet = re.match(r"\s*(?:[-*]|\d+\.) ", line)
            if bullet or not line.strip():
                yield from flush()
            if line.strip():
                begin = begin if lines else number
                lines.append(line[bullet.end() :] if bullet else line)
    yield from flush()


# --- Headless sentences -------------------------------------------------------------------------


def _word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_HEADS = _word_set(
    """
    what whatever who whoever whose where wherever whether which whichever how when
    """
)
_AUXILIARIES = _word_set(
    """
    is are was were has have had does do did can cannot could will would may might must should
    shall isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't can't couldn't
    won't wouldn't mustn't shouldn't it's that's there's they're they've we're you're i'm it'll
    """
)
_BASES = _word_set(
    """
    accept add agree allow answer apply appear arrive ask assume avoid be become begin belong
    bring build call cancel carry catch cause change check choose claim close combine come
    compare compute connect contain continue control convert copy cost count cover create cut
    decide define delete depend describe detect differ disappear divide do draw drop encode end
    enter exist expect explain fail fall fetch fill find finish fit fix follow get give go grow
    handle happen have hit hold hope ignore include increase join keep know last lead learn
    leave let lie limit list load lock look lose make match mean measure meet merge miss move
    name need number occur open own pass pay pick place point prepare prevent print produce
    prune put raise reach read receive record refer refuse reject release remain remove repeat
    replace report request require restore resume retrain return run sample save say search see
    seem select send set share show sit skip speak split stand start stay stop store submit
    succeed sum support switch take tell throw train treat try turn understand use validate vary
    wait want warn win wish work write yield
    """
)
_PASTS = _word_set(
    """
    began became brought built came chose cost cut did drew fell found gave got grew held hit
    kept knew lay led left lost made meant met paid put ran read said saw sent set showed spoke
    stood stopped took told tried understood went won wrote
    """
)
_ADVERBS = _word_set(
    """
    not never always only also ever already still just even be been being there then now both
    all
    """
)
_NOT_BEFORE_VERB = _word_set(
    """
    a an the to of in on for with by from at as its their his her our your my this these no
    every each any some another own per into over between and or but without than very let let's
    """
)
_CLAUSES = _word_set(
    """
    what whatever who whoever whom whose where wherever whether which whichever how when while
    if unless because although though whereas
    """
)
_MAYBE_CLAUSES = _word_set(
    """
    until before after as since than once till
    """
)
_SUBJECTS = _word_set(
    """
    a an the it its they their he she one no every each nothing some any all both two there this
    these those only
    """
)


def is_headless(sentence: str) -> bool:
    """Return whether a sentence begins as a relative clause and has no main clause."""
    if not sentence[:1].isupper() or sentence.rstrip("\"')* ").endswith(("?", ":")):
        return False
    words = re.findall(r"[A-Za-z]+(?:'[a-z]+)?|[,()]|\d[\d.]*", sentence.replace("\u2019", "'"))
    words = _without_parentheses([word.lower() for word in words])
    if len(words) < 2:
        return False
    head, after = words[0], words[1]
    if head in {"one", "ones", "those", "that", "these"}:
        return _headless_pronoun(head, after, words)
    if head not in _HEADS or (head in {"how", "when"} and after == "to"):
        return False
    if head == "which" and after in {"is", "means", "makes"}:
        return False
    if head in {"where", "wherever", "when", "whatever", "whether"} and _has_main_part(words):
        return False
    return len(_finite_verbs(words)) <= _clauses(words)


def _headless_pronoun(head: str, after: str, words: list[str]) -> bool:
    """Examine "One that ...", "Those of ...", "That of ..." and "That a file is ..."."""
    if after in {"that", "which", "who", "whose", "where", "without"}:
        return len(_finite_verbs(words)) <= _clauses(words)
    if after in {"of", "in", "with", "to", "from", "by", "for"} and head not in {"one"}:
        return len(_finite_verbs(words)) <= _clauses(words)
    if head == "that" and after in _SUBJECTS:
        return len(_finite_verbs(words)) <= _clauses(words) + 1
    return False


def _without_parentheses(words: list[str]) -> list[str]:
    depth, left = 0, []
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth <= 0 and word != ")":
            left.append(word)
    return left


def _has_main_part(words: list[str]) -> bool:
    """Return whether a part after a comma has a verb that no subordinate clause accounts for."""
    text = " ".join(words).split(" , ")
    parts = [part.split() for part in text[1:]]
    return any(len(_finite_verbs(part)) > _clauses(part) for part in parts if part)


def _finite_verbs(words: list[str]) -> list[str]:
    """Return the verbs that a clause can be built on, each chain of auxiliaries as one."""
    found, in_chain = [], False
    for before, word in zip(["", *words], words, strict=False):
        if word in _AUXILIARIES:
            if before not in {"and", "or", "but", "to"} and not (in_chain and word == "have"):
                found.append(word)
            in_chain = True
            continue
        if in_chain and (word in _ADVERBS or word.endswith("ly")):
            continue
        # A past form is taken for a finite verb only where the clause still lacks one: after a noun
        # it may be a participle ("the words kept").
        past = not found and before not in {"", ","} and word.endswith("ed")
        if not in_chain and before not in _NOT_BEFORE_VERB and (past or _looks_finite(word)):
            found.append(word)
        in_chain = False
    return found


def _looks_finite(word: str) -> bool:
    if word in _BASES or word in _PASTS:
        return True
    stems = (word[:-1], word[:-2], f"{word[:-3]}y") if word.endswith("s") else ()
    return any(stem in _BASES for stem in stems)


def _clauses(words: list[str]) -> int:
    """Return the number of subordinate clauses."""
    number = 0
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        after = words[at + 1 :]
        if word in _CLAUSES:
            number += after[:1] != ["to"] or at == 0
        elif word == "that":
            number += bool(at) and before not in {"of", "in", "for", "with", "by", "to", "than"}
        elif word in _MAYBE_CLAUSES:
            ahead = after[: after.index(",")] if "," in after else after
            number += bool(_finite_verbs(ahead[:6]))
    return number
