"""What `benchmarks/crash.py` does: kills and outages, and what is checked afterwards."""
