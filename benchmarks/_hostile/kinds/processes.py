"""Inputs of the other kinds, with commands that run as processes of their own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from _hostile.box import Box
from _hostile.cases import Case, Kind
from _hostile.kinds import bundles, configs, folders, ledgers, reviews

_BUILDERS = (ledgers.build, folders.build, bundles.build, configs.build, reviews.build)
_LIGHT = ("list", "status", "leaderboard", "predict", "validate", "export")


def build(box: Box, random: Random) -> Case:
    """Build an input of another kind, and run one of its commands as a shell would."""
    case = random.choice(_BUILDERS)(box, random)
    commands = [command for command in case.commands if command.arguments[0] in _LIGHT]
    own = replace(random.choice(commands or case.commands), own_process=True)
    return replace(case, commands=[own])


PROCESSES = Kind("processes", 0.6, build)
