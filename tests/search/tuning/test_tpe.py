from __future__ import annotations

from typing import ClassVar

from celltune.testing.sampler import SamplerContract


class TestContract(SamplerContract):
    sampler = "tpe"
    settings: ClassVar = {"startup_trials": 3}
