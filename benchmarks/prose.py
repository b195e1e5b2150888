"""Style faults in the prose of docstrings, comments, messages and Markdown pages.

Usage: python benchmarks/prose.py [PATH ...] [--show] [--quick]

PATH is a file or folder; without one, the packages, `docs` and README.md are examined. Figures, per
10,000 words:
  headless_per_10k  sentences that begin as a relative clause and have no main clause
  dialect_per_10k   words and phrases that the style replaces by plainer ones

The rules are heuristics (`benchmarks/_prose.py`): a count near zero matters, not each single hit.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _measure import REPOSITORY, finish
from _prose import SUFFIXES, blocks, dialect_words, is_headless, sentences, word_count

EXAMINED = ("api", "search", "models", "data_prep", "docs", "README.md")


@dataclass
class Faults:
    """The faults of one folder; each is (place, text)."""

    words: int = 0
    headless: list[tuple[str, str]] = field(default_factory=list)
    dialect: list[tuple[str, str]] = field(default_factory=list)

    def rates(self) -> tuple[float, float]:
        """Return headless sentences and dialect words per 10,000 words."""
        scale = 10_000 / max(1, self.words)
        return len(self.headless) * scale, len(self.dialect) * scale

    def add(self, other: Faults) -> None:
        self.words += other.words
        self.headless += other.headless
        self.dialect += other.dialect


def examine(path: Path) -> Faults:
    """Return the faults of one file."""
    faults = Faults()
    for block in blocks(path):
        place = f"{path}:{block.line}"
        faults.words += word_count(block.text)
        text = " ".join(block.text.split())
        faults.dialect += [(place, f"{word}: {text[:150]}") for word in dialect_words(text)]
        if not block.is_heading:
            faults.headless += [(place, s) for s in sentences(block.text) if is_headless(s)]
    return faults


def examine_folders(paths: Sequence[Path]) -> dict[str, Faults]:
    """Return the faults of each folder that contains prose."""
    folders: dict[str, Faults] = {}
    for root in map(_shortened, paths):
        files = [root] if root.is_file() else sorted(root.rglob("*"))
        for path in files:
            if path.suffix in SUFFIXES and path.is_file():
                name = str(path if path == root else path.parent)
                folders.setdefault(name, Faults()).add(examine(path))
    return folders


def _shortened(path: Path) -> Path:
    """Return the path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_table(folders: dict[str, Faults]) -> None:
    width = max(map(len, folders))
    print(f"{'':{width}}  {'words':>7}  {'headless':>8}  {'dialect':>7}   (per 10,000 words)")
    for name, faults in folders.items():
        headless, dialect = faults.rates()
        print(f"{name:{width}}  {faults.words:7}  {headless:8.1f}  {dialect:7.1f}")


def print_faults(total: Faults) -> None:
    for kind, found in (("Headless sentences", total.headless), ("Dialect", total.dialect)):
        print(f"\n{kind}:")
        for place, text in found:
            print(f"  {place}: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders")
    parser.add_argument("--show", action="store_true", help="print every fault with its place")
    parser.add_argument("--quick", action="store_true", help="the same work, nothing is saved")
    options = parser.parse_args()
    paths = options.paths or [REPOSITORY / name for name in EXAMINED]
    folders = examine_folders(paths)
    total = Faults()
    for faults in folders.values():
        total.add(faults)
    print_table({**folders, "total": total})
    if options.show:
        print_faults(total)
    headless, dialect = total.rates()
    words = Counter(text.partition(":")[0] for _, text in total.dialect)
    print("\n" + ", ".join(f"{word} {count}" for word, count in words.most_common()))
    figures = {"headless_per_10k": headless, "dialect_per_10k": dialect}
    keep = not options.quick and not options.paths
    finish("prose", figures, {"words": total.words}, keep=keep)


if __name__ == "__main__":
    main()
