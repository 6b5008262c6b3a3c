"""Carries registered models from the training registry to the mirror."""
