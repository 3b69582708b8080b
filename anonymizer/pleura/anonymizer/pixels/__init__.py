"""Pixels: decoding, lossless encoding, and what hides beside the image."""
