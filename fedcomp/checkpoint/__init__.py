"""What a run needs to go on after its process died: files of arrays and JSON, no pickle."""
