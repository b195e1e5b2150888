"""Fractions of a GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celltune.search.config.gpu_shares import check_gpu_share, gpu_share
from celltune.search.errors import ConfigError


@pytest.mark.parametrize("share", [0, 1, 2, 0.5, 0.33, 0.3333, 0.25, 0.1666, 0.14, 0.0001])
def test_a_share_that_fills_a_gpu_is_accepted(share: float) -> None:
    check_gpu_share(share)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (
            0.3,
            "0.3, which leaves 10 % of each GPU unused. Set it to 0.25 (4 workers per GPU) or "
            "0.3333 (3 workers per GPU).",
        ),
        (
            0.6,
            "0.6, which leaves 40 % of each GPU unused. Set it to 0.5 (2 workers per GPU) or 1 (1 "
            "worker per GPU).",
        ),
        # Six times this value is above 1, so Ray runs five trials.
        (
            0.1667,
            "0.1667, which leaves 17 % of each GPU unused. Set it to 0.1666 (6 workers per GPU) or "
            "0.2 (5 workers per GPU).",
        ),
        (0.00005, "5e-05. It must be at least 0.0001, or 0 for trials on the CPU."),
    ],
)
def test_a_share_that_does_not_divide_a_gpu_is_rejected(share: float, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_gpu_share(share)
    assert str(caught.value) == f"resources.gpus_per_trial is {expected}"


@given(trials=st.integers(1, 10_000))
def test_the_proposed_share_of_a_gpu_is_valid_and_fits(trials: int) -> None:
    share = gpu_share(trials)
    assert trials * share <= 1
    assert share == round(share, 4)
    if trials < 100:
        check_gpu_share(share)
        assert int(1 / share + 1e-9) == trials
