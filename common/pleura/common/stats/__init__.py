"""Statistics of external validation."""
