"""From catalog rows to arrays: cohorts, splits, preprocessing and patient data sets."""
