"""Logs: one JSON object a line on standard error, ours and the web server's alike. Never an input."""

from __future__ import annotations

import logging
import sys

import orjson
import structlog
from structlog.typing import EventDict, Processor

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


def _to_json(_logger: object, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)


def _to_json_text(logger: object, method: str, event: EventDict) -> str:
    return _to_json(logger, method, event).decode()
