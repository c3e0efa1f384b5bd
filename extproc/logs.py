"""Structured logs: one JSON object per line, to standard error. Messages carry no prompt, token or body."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Mapping
from functools import lru_cache

import msgspec


class JsonLines(logging.Formatter):
    """Format a record as JSON; `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception only its type, since its text can quote what must not be logged."""
        line: dict[str, object] = {
            "time": _time(record.created),
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
    for noisy in ("grpc", "aiohttp", "asyncio", "authlib", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def write_line(logger: str, message: str, fields: Mapping[str, object], now: float) -> None:
    """Write one line of level info at once, without the logging machinery: for what happens on every exchange.

    Encoding and one write cost about a tenth of a `logging` call with a handler of its own.
    """
    line = {"time": _time(now), "level": "info", "logger": logger, "message": message, **fields}
    try:
        sys.stderr.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stderr.buffer.flush()
    except OSError:
        # Nobody reads the log any more. The exchange is over and recorded; metrics go on counting.
        return


def _time(now: float) -> str:
    second, millisecond = divmod(round(now * 1000), 1000)
    return f"{_second(second)}.{millisecond:03d}Z"


# Many lines fall into the same second.
@lru_cache(maxsize=2)
def _second(now: int) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
