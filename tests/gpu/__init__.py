"""Tests that need a CUDA device; `make gpu` runs them."""
