from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from extproc import logs


def line(*, message: str = "hello", level: int = logging.INFO, **attributes: object) -> dict[str, object]:
    record = logging.LogRecord("extproc.test", level, __file__, 1, message, None, None)
    record.created = 1_760_000_000.123
    for name, value in attributes.items():
        setattr(record, name, value)
    text = logs.JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_record_is_one_json_object() -> None:
    assert line() == {
        "time": "2025-10-09T08:53:20.123Z",
        "level": "info",
        "logger": "extproc.test",
        "message": "hello",
    }


def test_fields_are_added() -> None:
    assert line(fields={"decision_id": "d1", "status": 422})["status"] == 422
    assert "fields" not in line(fields="not a mapping")


def test_line_breaks_and_quotes_cannot_forge_a_line() -> None:
    forged = 'x\n{"level": "error"}'
    assert line(message=forged, fields={"path": forged})["path"] == forged


def test_of_an_exception_only_its_type_is_told() -> None:
    error = ValueError("gho_secret in a prompt")
    shown = line(exc_info=(ValueError, error, None))
    assert shown["exception"] == "ValueError"
    assert "gho_secret" not in repr(shown)
    assert "exception" not in line(exc_info=(None, None, None))


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = before
    logger.setLevel(level)


def test_all_logs_go_to_standard_error_as_lines_and_libraries_are_quiet(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    # What pytest put there would be closed by `configure`.
    root.handlers[:] = []
    logs.configure()
    logging.getLogger("extproc.any").info("one", extra={"fields": {"n": 1}})
    logging.getLogger("extproc.any").debug("not told")
    logging.getLogger("aiohttp.access").info("not told")
    logging.getLogger("aiohttp.server").warning("two")
    out, err = capsys.readouterr()
    assert out == ""
    told = [json.loads(text) for text in err.splitlines()]
    assert [(one["message"], one.get("n")) for one in told] == [("one", 1), ("two", None)]
