"""Which network is tried next, and which one is stopped. Knows no SQL."""
