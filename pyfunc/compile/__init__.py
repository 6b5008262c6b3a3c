"""Turns a bundle's arrays into one ONNX graph."""
