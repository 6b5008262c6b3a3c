"""The process's own edge: what a proxy in front of it would do, since none stands there.

`server.py` accepts, `handshakes.py` does so under TLS, `connections.py` says how many may be open and which
one makes room, `http.py` serves one of them, `reader.py` reads its requests, `head.py` judges their heads,
`known_heads.py` spares it those that came before, `timed.py` ends what takes too long, `progress.py` tells
slow from stopped, `deadlines.py` lets time pass for all connections at once, `refusals.py` answers where the
application never hears of a request, `pacing.py` says when. `transport.py` knows what of an answer was taken,
`sliced.py` under TLS, too, and `backlog.py` how much all callers have left to take.
"""
