"""Comparisons of methods on one task, each a list of runs: `scripts/reproduce NAME`."""
