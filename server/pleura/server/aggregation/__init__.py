"""Rules that turn admitted updates into the next model."""
