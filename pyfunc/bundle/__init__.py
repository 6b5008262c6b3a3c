"""Reads a training bundle as data, without running any of it."""
