"""Text burned into the pixels: found, judged, blacked out and read again."""
