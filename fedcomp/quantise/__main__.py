"""`python -m fedcomp.quantise`."""

from fedcomp.quantise.cli import main

main()
