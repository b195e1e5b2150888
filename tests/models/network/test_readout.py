"""The contract of readouts for all built-in readouts."""

from __future__ import annotations

from celltune.testing.readout import ReadoutContract


class TestFinal(ReadoutContract):
    readout = "final"


class TestMean(ReadoutContract):
    readout = "mean"


class TestMax(ReadoutContract):
    readout = "max"


class TestLastTwoLayers(ReadoutContract):
    readout = "last_two_layers"


class TestMaxMean(ReadoutContract):
    readout = "max_mean"


class TestAttention(ReadoutContract):
    readout = "attention"
