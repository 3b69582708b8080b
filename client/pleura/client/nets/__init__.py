"""Built-in GroupNorm networks, one file each, and their registry."""
