"""Serves the mirror's models over REST."""

VERSION = "0.1.0"
