"""What a person sees of a run: the run folder, the progress view, tables."""
