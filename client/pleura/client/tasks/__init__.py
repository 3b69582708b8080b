"""Built-in tasks, one file each, and their closed registry."""
