"""Results and speed of celltune on one NVIDIA GPU.

Usage: python benchmarks/gpu.py [--minutes 8] [--sections 1,2,3,4,5] [--quick] [--imdb FILE]
       [--out DIR]
       python benchmarks/gpu.py --tables DIR

FILE is a csv or csv.gz with the columns label and text; without it, synthetic documents with the
lengths and word frequencies of IMDB are used. Each section prints a table and writes
gpu-<section>.json to DIR (benchmarks/results) while it runs; --tables prints these files as
Markdown. docs/gpu.md explains the figures.
Sections:
  1 numerics  cells, layers, directions, readouts and precisions against float64 on the CPU;
              resumed and repeated trainings
  2 cells     time of each cell relative to cuDNN through torch.nn
  3 epoch     an epoch on IMDB: speed, memory, synchronisations, next to a plain script
  4 search    64 trials that share the GPU, scheduled by Ray (if it is installed)
  5 packed    trials of one shape as one batched model, against single trials and processes
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Here, because the processes of section 5 import this module.
    from _gpu.runner import main

    sys.exit(main())
