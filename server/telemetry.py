"""Logs: one JSON object a line on standard error, ours and the web server's alike. Never an input."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime

import orjson
import structlog
from structlog.typing import EventDict, Processor

_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_TIMESTAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)


def configure_logs(level: str) -> None:
    """Set up both loggers of the process; call it once, at the edge."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    first: list[Processor] = [structlog.stdlib.add_log_level, _TIMESTAMP]
    structlog.configure(
        processors=[*first, structlog.processors.format_exc_info, _to_json],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _to_json_text,
            ],
        )
    )
    # Of libraries warnings only: what botocore tells below that holds session tokens.
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    # Numpy warns on standard error of what the answer's own check already reports.
    logging.captureWarnings(capture=True)


class RequestLog:
    """The one line a request leaves, as the other lines look, at a fifth of their price.

    Lines of one turn of the event loop are written together, at its end, and have one timestamp.
    """

    def __init__(self) -> None:
        self._stream, self._lines, self._now = sys.stderr.buffer, list[bytes](), datetime.now(UTC)
        self._enabled = structlog.get_logger().is_enabled_for(logging.INFO)

    def write(self, line: dict[str, object]) -> None:
        """Complete and write a line of facts about a request; call it on the event loop."""
        if not self._enabled:
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
            self._now = datetime.now(UTC)
        line["event"], line["level"], line["timestamp"] = "request", "info", self._now
        self._lines.append(orjson.dumps(line, option=_LINE))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._stream.write(b"".join(lines))
        self._stream.flush()


def _to_json(_logger: object, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)


def _to_json_text(logger: object, method: str, event: EventDict) -> str:
    return _to_json(logger, method, event).decode()
