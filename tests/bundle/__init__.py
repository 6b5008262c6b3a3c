"""Tests of the inert bundle reader."""
