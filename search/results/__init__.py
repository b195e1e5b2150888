"""Rows of a leaderboard: rank, filter, write."""
