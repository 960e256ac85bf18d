"""Pictures of runs: colours, lines, axes, labels."""
