"""The sections of `benchmarks/gpu.py`. Tests run them on the CPU."""
