"""What a run leaves on disk: checkpoints, rounds, manifests. Pure readers and writers."""
