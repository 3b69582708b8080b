"""The statement log: what was signed, in the order it was accepted."""
