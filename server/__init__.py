"""Serves the mirror's models over REST."""
