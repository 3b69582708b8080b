"""Evaluation of a sealed model at the site, with intervals."""
