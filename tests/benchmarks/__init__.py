"""Tests of the benchmarks that contain logic."""
