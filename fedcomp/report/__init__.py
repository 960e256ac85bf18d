"""What a person sees of runs: folders, the progress view, tables, pictures, pages, trackers."""
