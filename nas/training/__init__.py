"""Trains one architecture briefly and measures it; the only floor that knows lightning."""
