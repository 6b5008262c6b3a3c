"""Tests of the registry sync."""
