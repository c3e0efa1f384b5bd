"""Structured logs: one JSON object per line, to standard error. Messages carry no prompt, token or body."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Mapping

import msgspec


class JsonLines(logging.Formatter):
    """Format a record as JSON; `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception only its type, since its text can quote what must not be logged."""
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return msgspec.json.encode(line).decode()


def configure(level: int = logging.INFO) -> None:
    """Send all logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Connection noise of libraries; what matters of it reaches our own loggers.
    for noisy in ("grpc", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
