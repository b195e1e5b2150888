"""What is tried, where it runs, what came of it.

    from search import Changes, launch, resume, leaderboard

Importing this is quick: Ray, torch and Optuna are loaded when a search starts.
"""

from __future__ import annotations

from search.experiment import Result, launch, resume
from search.extension import Changes
from search.leaderboard import leaderboard

__all__ = ["Changes", "Result", "launch", "leaderboard", "resume"]
