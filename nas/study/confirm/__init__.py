"""Training the best of a study again with fresh seeds, and what follows from it."""
