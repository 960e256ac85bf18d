"""`python -m fedcomp`."""

from fedcomp.cli import main

main()
