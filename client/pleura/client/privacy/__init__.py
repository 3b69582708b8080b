"""Patient-level differential privacy: engines, noise, sampling and the site's budget."""
