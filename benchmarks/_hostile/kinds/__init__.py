"""All kinds of hostile inputs."""

from __future__ import annotations

from _hostile.kinds.arguments import ARGUMENTS
from _hostile.kinds.bundles import BUNDLES
from _hostile.kinds.caches import CACHES, NATIVE
from _hostile.kinds.checkpoints import CHECKPOINTS
from _hostile.kinds.configs import CONFIGS
from _hostile.kinds.data_files import DATA_FILES, VECTORS
from _hostile.kinds.folders import FOLDERS
from _hostile.kinds.ledgers import LEDGERS
from _hostile.kinds.processes import PROCESSES
from _hostile.kinds.reviews import REVIEWS

KINDS = (
    LEDGERS,
    FOLDERS,
    CHECKPOINTS,
    BUNDLES,
    CACHES,
    NATIVE,
    CONFIGS,
    DATA_FILES,
    VECTORS,
    REVIEWS,
    ARGUMENTS,
    PROCESSES,
)
