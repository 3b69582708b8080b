"""Pixel side of the site: verified orders in, signed answers out; no network."""
