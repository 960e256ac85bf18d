"""Benchmarks: what `scripts/bench` runs, each next to its peer or its bound."""
