"""Raw text to tensorized, cached, shared batches; knows nothing of models or search.

``prepare`` gives the data of a config, ``batches`` and ``ordered_batches`` cut them. Sharing them
in a Ray cluster is ``data_prep.store``, which has to be imported by itself: nothing here needs Ray.
"""

from __future__ import annotations

from data_prep.batching import Batch, batches, ordered_batches
from data_prep.config import DataConfig
from data_prep.dataset import PreparedData, PreparedTest, TensorizedSplit
from data_prep.errors import DataError
from data_prep.prepare import prepare, prepare_test, read_parts, survey
from data_prep.rows import Progress
from data_prep.sources import check_present

__all__ = [
    "Batch",
    "DataConfig",
    "DataError",
    "PreparedData",
    "PreparedTest",
    "Progress",
    "TensorizedSplit",
    "batches",
    "check_present",
    "ordered_batches",
    "prepare",
    "prepare_test",
    "read_parts",
    "survey",
]
