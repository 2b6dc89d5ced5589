"""Measurements of speed: `python -m benchmarks.NAME [--json]`; ratios hold within one run."""
