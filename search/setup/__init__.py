"""Proposals of configs: what a search on a data set needs, decided from facts about its texts."""
