"""Proof that a compiled model answers as the trainer's own libraries do: the parity certificate.

`certify` (in the sync's process) chooses rows from the inert bundle, asks the compiled model and, in a child
process that never sees the compiler, econml and torch, and compares.
"""
