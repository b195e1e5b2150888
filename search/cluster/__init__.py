"""Execution on a Ray cluster: the connection, trials on Ray Tune, and tasks.

The only subpackage of `celltune.search` that imports Ray. Importing it sets the environment
variables that Ray reads at its own import, so every module that needs them imports this package
first.
"""

from celltune.search.cluster.ray_internals import set_import_environment

set_import_environment()
