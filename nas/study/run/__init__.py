"""What a worker does: its loop, training, scoring and the checkpoints."""
