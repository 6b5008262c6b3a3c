"""What differs between registry, bundles, mirror and server, and why: `python -m registry_sync diff`.

`registry.py`, `mirror.py` and `server.py` compare and are pure; `gather.py` reads the sides and
`answers.py` asks the server. Nothing here writes.
"""
