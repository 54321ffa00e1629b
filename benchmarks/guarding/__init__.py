"""What `benchmarks/guard.py` does: tasks, recordings of whole runs, and what the guard makes of them."""
