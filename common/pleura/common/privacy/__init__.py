"""Privacy accounting both sides can check."""
