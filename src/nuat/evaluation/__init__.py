"""Models under attack: verdicts for each image."""
