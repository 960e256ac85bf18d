"""Sweeps, `fedcomp -m`: a run for every combination, each in a process and a folder of its own."""
