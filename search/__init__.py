"""What is tried, where it runs, what came of it.

    from search import Changes, launch, resume, leaderboard, export, load_model

Importing this is quick: Ray, torch and Optuna are loaded when a search starts.
"""

from __future__ import annotations

from search.experiment import Result, launch, resume
from search.exporting import export, load_model
from search.extension import Changes
from search.leaderboard import leaderboard

__all__ = ["Changes", "Result", "export", "launch", "leaderboard", "load_model", "resume"]
