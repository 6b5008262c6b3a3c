"""Runs the server: `python main.py`."""

from server.__main__ import main

main()
