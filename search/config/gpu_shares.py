"""Fractions of a GPU, the `resources.gpus_per_trial` with which several workers share one.

They are checked in the configs that users give. A stored experiment stays readable whatever its
config contains.
"""

from __future__ import annotations

from celltune.search.errors import ConfigError
from celltune.search.wording import counted

SMALLEST_SHARE = 0.0001
"""Smallest amount of a resource that Ray can assign."""
UNUSED_SHARE = 0.02
"""Largest share of a GPU that a fraction may leave unused; 0.33 leaves 0.01."""
_ROUNDING = 1e-9


def gpu_share(workers: int) -> float:
    """Return the `gpus_per_trial` with which a number of workers shares a GPU, rounded down."""
    return round(int(1 / workers / SMALLEST_SHARE + _ROUNDING) * SMALLEST_SHARE, 4)


def check_gpu_share(share: float) -> None:
    """Check that a fraction divides a GPU.

    Args:
        share: `resources.gpus_per_trial`; 0 and whole numbers are valid, too.

    Raises:
        ConfigError: the fraction is too small, or leaves a part of the GPU unused.
    """
    if not 0 < share < 1:
        return
    if share < SMALLEST_SHARE:
        raise ConfigError(
            f"resources.gpus_per_trial is {share:g}. It must be at least {SMALLEST_SHARE:g}, or 0 "
            "for trials on the CPU."
        )
    workers = int(1 / share + _ROUNDING)
    unused = 1 - workers * share
    if unused > UNUSED_SHARE + _ROUNDING:
        fixes = " or ".join(
            f"{gpu_share(count):g} ({counted(count, 'worker')} per GPU)"
            for count in (workers + 1, workers)
        )
        raise ConfigError(
            f"resources.gpus_per_trial is {share:g}, which leaves {100 * unused:.0f} % of each GPU "
            f"unused. Set it to {fixes}."
        )
