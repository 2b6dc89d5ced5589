"""Benchmarks of speed and memory: `python -m benchmarks.NAME [--json]`.

Compare only times that the same run of a benchmark measured.
"""
