"""Reads requests out of one connection's bytes, and stops at the first that is too large or means two things.

The parser is llhttp, as in uvicorn, without the leniency uvicorn gives it. What becomes of a request is
for the subclass: see `http.py`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote

import httptools

from server.edge.cycle import Cycle
from server.edge.edge import Edge
from server.edge.head import NOTED, check_line, check_noted, check_size
from server.edge.known_heads import END, KnownHead
from server.edge.limits import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    chunks_allowed,
    overhead_allowed,
)
from server.edge.scope import PLAN
from server.errors import (
    BodyTooLargeError,
    HeadTooLargeError,
    MalformedRequestError,
    OverloadedError,
    ServerError,
    TargetTooLongError,
)

Headers = list[tuple[bytes, bytes]]


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DEAF = auto()
    """To nothing: it is thrown away while answers are still to be given."""
    LINGER = auto()
    """Likewise, after the last of them: the connection is about to close."""


# Looked up many times a request, and slowly through an enumeration.
IDLE, HEAD, BODY, DEAF, LINGER = Phase


class RequestReader(asyncio.Protocol):
    """The reading side of a connection.

    Its callbacks are the parser's; they raise to stop it, having said in `_error` why.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge, self._max_body_bytes = edge, edge.limits.max_body_bytes
        self._parser: Any = httptools.HttpRequestParser(self)
        self._common: dict[str, Any] = {}
        """What all requests of the connection have in common, as ASGI says it."""
        self._said: dict[str, Any] = {}
        """What the head that was read last says."""
        self._phase, self._since = HEAD, edge.clock.now
        self._error: ServerError | None = None
        self._is_last = False
        """Whether a request that ends the connection was read to its end."""
        self._block = self._at_most = self._at_least = 0
        """Bytes of this read; bounds of what this head has taken: exact counting costs what it saves."""
        self._url, self._headers, self._noted = b"", Headers(), Headers()
        self._length, self._is_chunked = 0, False
        self._body_bytes = self._wire_bytes = self._chunks = 0
        """Of this body: its own, with all that stands around them, and its chunks."""
        self._cycle: Cycle | None = None
        """The request that was read last."""

    @abstractmethod
    def _serve(self, scope: dict[str, Any], *, may_stay: bool, body: bytes | None = None) -> Cycle:
        """A request begins, whose body is here or may follow.

        Raises:
            ServerError: it is not taken.
        """

    @abstractmethod
    def _fail(self, error: ServerError) -> None:
        """What is being read is wrong, and so is whatever follows."""

    @abstractmethod
    def _let_wait(self) -> None:
        """Read on only when the application has taken what there is."""

    # ---- bytes in --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read on."""
        size, is_start = len(data), self._phase is IDLE or not self._at_least
        if self._phase is IDLE and not self._is_last:
            end = data.find(END) + len(END)
            if (known := self._edge.heads.get(data[:end])) is not None and size == end + known.length:
                self._take_known(known, data[end:])
                return
            self._phase, self._since = HEAD, self._edge.clock.now
            self._at_most = self._at_least = size
        elif self._phase is HEAD:
            self._at_most += size
            self._at_least += size
        elif self._phase is not BODY:
            self._throw_away(size)
            return
        self._block = size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._is_last:
                self._throw_away(size)
            elif self._phase in (HEAD, BODY):
                self._fail(self._error or MalformedRequestError("HTTP/1.1 as in RFC 9112"))
        else:
            self._look_back(data, is_start=is_start)

    def _look_back(self, data: bytes, *, is_start: bool) -> None:
        """The parser has read on; how far has it come?"""
        size = len(data)
        if self._phase is IDLE and is_start:
            self._learn(data)
        elif self._phase is HEAD:
            self._check_head()
        elif self._phase is BODY:
            self._wire_bytes += size
            if self._wire_bytes - self._body_bytes > size + overhead_allowed(self._chunks):
                self._fail(MalformedRequestError("less around the chunks of the body"))

    def _take_known(self, known: KnownHead, body: bytes) -> None:
        """A whole request, whose head was read before; the parser does not hear of it."""
        self._phase, self._since = IDLE, self._edge.clock.now
        self._at_most, self._at_least = len(body), 0
        self._noted, self._length, self._is_chunked = [], known.length, False
        try:
            self._cycle = self._serve({**self._common, **known.scope}, may_stay=True, body=body)
        except ServerError as exc:
            self._phase = HEAD
            self._fail(exc)
        else:
            self._is_last = not self._cycle.may_stay

    def _learn(self, data: bytes) -> None:
        """Remember the head of what was one whole request, and an ordinary one.

        Of two requests in one read the second's body is shorter than what follows the first's head.
        """
        end = data.find(END) + len(END)
        is_ordinary = not (self._is_last or self._is_chunked or len(self._noted) > 1)
        if is_ordinary and end + self._length == len(data):
            self._edge.heads.learn(data[:end], KnownHead(self._said, self._length))

    def _throw_away(self, size: int) -> None:
        """Bytes after the last request, or after a refusal, are nobody's."""
        if self._phase is IDLE:
            self._phase = DEAF
        self._body_bytes += size

    def _check_head(self) -> None:
        if self._at_least <= MAX_HEAD_BYTES:
            return
        if len(self._url) > MAX_TARGET_BYTES:
            self._fail(TargetTooLongError(MAX_TARGET_BYTES))
        else:
            self._fail(HeadTooLargeError(MAX_HEAD_BYTES, MAX_HEADERS))

    # ---- the parser's callbacks ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._is_last or self._phase in (DEAF, LINGER):
            raise MalformedRequestError("nothing after the last request")
        self._phase = HEAD
        self._url, self._headers, self._noted = b"", [], []
        self._length, self._is_chunked = 0, False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those are not read here."""
        if self._phase is not HEAD:
            return
        name = name.lower()
        if name in NOTED:
            if name == b"content-length":
                self._length = int(value)  # digits: the parser has seen to that
            else:
                self._noted.append((name, value))
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        try:
            check_size(self._url, self._headers, self._at_most)
            check_line(method, version)
            self._is_chunked = check_noted(self._noted, version)
            if self._length > self._max_body_bytes:
                self._stop(BodyTooLargeError(self._max_body_bytes))
            url = httptools.parse_url(self._url)
            raw_path = url.path or b"/"
            path = raw_path.decode("ascii")
            self._said = {
                "http_version": version,
                "method": method.decode("ascii"),
                "path": unquote(path) if "%" in path else path,
                "raw_path": raw_path,
                "query_string": url.query or b"",
                "headers": self._headers,
            }
            self._said[PLAN] = self._edge.shortcut.plan(self._said)
            self._body_bytes = self._wire_bytes = self._chunks = 0
            self._phase = BODY
            may_stay = version == "1.1" and self._parser.should_keep_alive()
            self._cycle = self._serve({**self._common, **self._said}, may_stay=may_stay)
        except ServerError as exc:
            self._phase, self._error = HEAD, exc
            raise

    def on_chunk_header(self) -> None:
        """Another chunk."""
        self._chunks += 1
        if self._chunks > chunks_allowed(self._body_bytes):
            self._stop(MalformedRequestError("fewer, larger chunks"))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        size, cycle = len(body), self._cycle
        self._body_bytes += size
        if self._body_bytes > self._max_body_bytes:
            self._stop(BodyTooLargeError(self._max_body_bytes))
        if cycle is None or cycle.response_complete:
            return
        edge = self._edge
        if not edge.can_hold(size):
            self._stop(OverloadedError())
        cycle.received += size
        edge.held += size
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_BYTES:
            self._let_wait()
        cycle.wake()

    def on_message_complete(self) -> None:
        """The request is whole."""
        cycle = self._cycle
        if self._phase is not BODY or cycle is None:
            return
        self._phase, self._since = IDLE, self._edge.clock.now
        self._at_most, self._at_least = self._block, 0
        self._is_last = not cycle.may_stay
        if cycle.response_complete:
            return
        cycle.more_body = False
        if not cycle.response_started:
            cycle.keep_alive = cycle.may_stay
        self._edge.count(cycle)
        cycle.wake()

    def _stop(self, error: ServerError) -> None:
        self._error = error
        raise error


HIGH_WATER_BYTES = 64 * 1024
"""Of a body that the application has not taken yet."""
