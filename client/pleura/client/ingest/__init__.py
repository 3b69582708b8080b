"""From a watched folder to the de-identified store and its catalog."""
