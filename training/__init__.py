"""Training: runs, members, the loop, checkpoints, ranks."""
