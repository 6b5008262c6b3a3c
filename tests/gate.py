"""A door between a process and a service on loopback, which a test can shut in the ways networks do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

OPEN, RESET, SILENT = "open", "reset", "silent"
"""Everything passes; every connection is reset; bytes are taken and never answered."""

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_METHODS = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")


class Gate:
    """Forwards TCP; `mode` holds for connections that are there already, too."""

    def __init__(self, url: str) -> None:
        self._upstream = (urlsplit(url).hostname or "", urlsplit(url).port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._live: set[socket.socket] = set()
        self._mode = OPEN
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def shut(self, mode: str) -> None:
        """From now on, this is what happens to everything that comes."""
        self._mode = mode
        if mode == RESET:
            for connection in list(self._live):
                _reset(connection)

    def close(self) -> None:
        """Take no more."""
        self._listener.close()
        self.shut(RESET)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                if self._mode == RESET:
                    _reset(connection)
                    continue
                self._live.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(self._upstream, timeout=30) as service:
                back = threading.Thread(target=self._pass_on, args=(service, client), daemon=True)
                back.start()
                self._pass_on(client, service)
        except OSError:  # one of them left
            return
        finally:
            self._live.discard(client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if data.startswith(_METHODS):
                    self.requests.append(data.partition(b"\r\n")[0].decode())
                if self._mode == OPEN:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        connection.close()


@contextmanager
def gate_to(url: str) -> Iterator[Gate]:
    """An open gate in front of a service, for as long as the block runs."""
    gate = Gate(url)
    try:
        yield gate
    finally:
        gate.close()
