"""Reads a training bundle as data, without running any of it."""

from pyfunc.bundle.read import read_bundle

__all__ = ["read_bundle"]
