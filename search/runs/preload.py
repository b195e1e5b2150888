"""What a process that Ray starts together with a local cluster imports: all that trials need.

Ray starts a process for each CPU and runs the first trials in them. Their imports take longer than
everything else until then, so they begin at once. A process that Ray starts later, for one job,
imports what that job needs.
"""

import os

from celltune.search.cluster.ray_internals import STARTED_FOR_A_JOB

if STARTED_FOR_A_JOB not in os.environ:
    import celltune.models.training.wide_only
    import celltune.search.cluster.worker  # noqa: F401
