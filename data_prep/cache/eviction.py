"""Which data sets stay in memory: a decision without Ray, for the DataCache actor to carry out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from celltune.data_prep.errors import DataError


@dataclass
class _Kept:
    nbytes: int
    used: int
    holders: Counter[str] = field(default_factory=Counter)


class LruTracker:
    """Sets by name, with their sizes, who holds them and when they were last used.

    A set that a living holder holds is never given up. Time is the order of calls, no clock.

    Args:
        alive: whether a holder still lives; one that died holds nothing any more.
    """

    def __init__(self, alive: Callable[[str], bool]) -> None:
        """Starts with nothing."""
        self._alive = alive
        self._kept: dict[str, _Kept] = {}
        self._now = 0

    def __contains__(self, name: str) -> bool:
        """Whether the set is kept."""
        return name in self._kept

    @property
    def nbytes(self) -> int:
        """The bytes of all sets together."""
        return sum(kept.nbytes for kept in self._kept.values())

    def make_room(self, nbytes: int, ceiling: int | None) -> list[str]:
        """Gives up sets until so many bytes more stay within the ceiling.

        Args:
            nbytes: of the set that shall come.
            ceiling: for all sets together; None: there is none.

        Returns:
            The sets given up, the least recently used first.

        Raises:
            DataError: what is in use leaves too little room; nothing was given up.
        """
        if ceiling is None:
            return []
        chosen: list[str] = []
        left = self.nbytes
        for name in sorted(self._kept, key=lambda name: self._kept[name].used):
            if left + nbytes <= ceiling:
                break
            if not self.users(name):
                chosen.append(name)
                left -= self._kept[name].nbytes
        if left + nbytes > ceiling:
            raise DataError(
                f"{nbytes:,} bytes of prepared data don't fit beside {left:,} bytes in use under "
                f"the ceiling of {ceiling:,}; raise resources.data_memory_gb, wait for another "
                f"search to end, or lower data.train_size or data.max_tokens"
            )
        for name in chosen:
            del self._kept[name]
        return chosen

    def put(self, name: str, nbytes: int) -> None:
        """Keeps a set that isn't kept yet."""
        self._kept[name] = _Kept(nbytes, self._tick())

    def use(self, name: str) -> None:
        """Notes that a set was used just now."""
        self._kept[name].used = self._tick()

    def hold(self, name: str, holder: str) -> None:
        """Notes that a holder needs the set, until it lets go as often as it took hold."""
        self._kept[name].holders[holder] += 1
        self.use(name)

    def let_go(self, name: str, holder: str) -> None:
        """Takes one hold back; of what isn't held, nothing."""
        if name in self._kept and self._kept[name].holders[holder]:
            self._kept[name].holders[holder] -= 1

    def users(self, name: str) -> int:
        """How many living holders hold the set."""
        holders = self._kept[name].holders
        return sum(count > 0 and self._alive(holder) for holder, count in holders.items())

    def clear(self, names: Collection[str] | None = None) -> list[str]:
        """Gives up sets that nobody uses, all or of these names, and names them."""
        chosen = [
            name for name in self._kept if (names is None or name in names) and not self.users(name)
        ]
        for name in chosen:
            del self._kept[name]
        return chosen

    def _tick(self) -> int:
        self._now += 1
        return self._now
