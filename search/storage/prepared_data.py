"""The prepared data of an experiment, after its search."""

from __future__ import annotations

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError
from celltune.data_prep.types import Progress


def load_prepared(
    experiment: str, config: DataConfig, fingerprint: str, progress: Progress | None = None
) -> PreparedData:
    """Load the prepared data that an experiment used.

    It is read from the cache, or prepared again if the cache does not contain it.

    Args:
        experiment: name of the experiment, for messages.
        config: what was prepared, and how.
        fingerprint: identifies the data; empty if it is unknown.
        progress: called while the data is prepared again.

    Raises:
        InputError: the original data is not available, or has changed.
    """
    from celltune.data_prep.preparation.pipeline import find_prepared, prepare

    data = find_prepared(fingerprint)
    if data is None:
        data = prepare(config, progress=progress)
        if data.fingerprint != fingerprint:
            raise DataError(
                f"The vocabulary of '{experiment}' is not available: the cache does not "
                f"contain its prepared data (fingerprint {fingerprint[:12]}), and "
                f"{config.location} now has the fingerprint {data.fingerprint[:12]}. "
                "Restore the original data, or work on the machine that ran the search."
            )
    return data
