"""Hostile inputs for every command: generators, isolated workers and verdicts; see `hostile.py`."""

import os

# The libraries read them at their import. Each worker process uses one thread.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
