"""Tests of the model: features, compiler, engine, artifact, flavor."""
