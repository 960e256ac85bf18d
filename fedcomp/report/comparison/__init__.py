"""What `fedcomp-report` prints, draws and writes of several runs."""
