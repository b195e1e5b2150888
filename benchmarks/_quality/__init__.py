"""Parts of benchmarks/quality.py: the data sets, the searches on them, and their figures."""
