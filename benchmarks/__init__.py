"""Speed and memory: `python -m benchmarks.NAME [--json]`. Compare times only within one run."""
