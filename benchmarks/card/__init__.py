"""The parts of `benchmarks/gpu.py`, one question a file; none imports another's numbers."""
