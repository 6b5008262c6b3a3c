"""tauserve's tests."""
