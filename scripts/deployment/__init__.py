"""What `scripts/deploy-local` runs: a SuperLink and its SuperNodes on this machine."""
