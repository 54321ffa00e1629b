"""Cheap scores of architectures, and whether they rank as full training does."""
