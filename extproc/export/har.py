"""Exchanges as HAR 1.2, the HTTP archive format that browsers and proxies read. Pure.

The record has what was understood of bodies, masked, and not their bytes: `postData` and `content` hold that as JSON.
Members that HAR does not have begin with an underscore, as it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from extproc.recording.packing import encoded

CREATOR: Final = "copilot-extproc"

_PARSED: Final = "what was recorded of the body, after masking; not its bytes"

# Facts about the client that are one header field each.
_HEADERS: Final = {
    "user_agent": "user-agent",
    "editor_version": "editor-version",
    "editor_plugin_version": "editor-plugin-version",
    "integration_id": "copilot-integration-id",
    "initiator": "x-initiator",
    "interaction_id": "x-interaction-id",
    "interaction_type": "x-interaction-type",
    "intent": "openai-intent",
    "task_id": "x-agent-task-id",
    "vision_request": "copilot-vision-request",
    "api_version": "x-github-api-version",
    "anthropic_version": "anthropic-version",
    "anthropic_beta": "anthropic-beta",
}
_HEAD_OF_REQUEST: Final = ("method", "host", "path", "upstream", "endpoint", "repository", "body_bytes")
_HEAD_OF_RESPONSE: Final = ("status", "upstream_status", "content_type", "body_bytes")


class Har:
    """Write one HAR file; a session is a page of it."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, Any]] = {}
        self._removed: list[dict[str, Any]] = []
        self._any = False

    def begin(self) -> bytes:
        """Return the beginning of the log."""
        return b'{"log":{"version":"1.2","creator":%b,"entries":[' % encoded({"name": CREATOR, "version": "1"})

    def add(self, document: Mapping[str, Any]) -> bytes:
        """Return the entry of an exchange; nothing for one whose content was removed: that is told at the end."""
        if "removed" in document:
            self._removed.append(dict(document))
            return b""
        session = document["session"]
        if session not in self._pages:
            self._pages[session] = {
                "startedDateTime": _time(document["opened_at"]),
                "id": session,
                "title": f"session {session}",
                "pageTimings": {},
            }
        comma = b"," if self._any else b""
        self._any = True
        return comma + b"\n" + encoded(_entry(document))

    def end(self) -> bytes:
        """Return the pages, what was removed, and the end of the log."""
        return b'\n],"pages":%b,"_removed":%b}}\n' % (encoded(list(self._pages.values())), encoded(self._removed))


def _entry(document: Mapping[str, Any]) -> dict[str, Any]:
    timing = document.get("timing") or {}
    closed = max(timing.get("closed") or 0.0, 0.0)
    # Null where the exchange was refused: nothing was sent, and all the time went by before the answer.
    answered = min(closed, timing["response_headers"]) if timing.get("response_headers") is not None else closed
    own = ("id", "turn", "principal", "decision", "outcome", "error", "findings", "approvals", "entry")
    return {
        "pageref": document["session"],
        "startedDateTime": _time(document["opened_at"]),
        "time": closed,
        "request": _request(document),
        "response": _response(document),
        "cache": {},
        "timings": {"send": 0, "wait": answered, "receive": round(closed - answered, 3)},
        **{f"_{name}": document.get(name) for name in own},
    }


def _request(document: Mapping[str, Any]) -> dict[str, Any]:
    request, client = document["request"], document["client"]
    content = {name: value for name, value in request.items() if name not in _HEAD_OF_REQUEST}
    path = request.get("path") or ""
    har = {
        "method": request.get("method") or "",
        "url": f"https://{request.get('host') or ''}{path}",
        "httpVersion": "unknown",
        "cookies": [],
        "headers": [
            {"name": name, "value": client[fact]} for fact, name in _HEADERS.items() if client.get(fact) is not None
        ],
        "queryString": [
            {"name": name, "value": value} for name, value in parse_qsl(path.partition("?")[2], keep_blank_values=True)
        ],
        "headersSize": -1,
        "bodySize": request.get("body_bytes", -1),
    }
    if content.get("model") is not None or len(content) > 1:
        har["postData"] = {"mimeType": "application/json", "text": encoded(content).decode(), "comment": _PARSED}
    return har


def _response(document: Mapping[str, Any]) -> dict[str, Any]:
    response = document.get("response") or {}
    content = {name: value for name, value in response.items() if name not in _HEAD_OF_RESPONSE}
    text = encoded(content).decode() if content else ""
    kind = response.get("content_type")
    return {
        "status": response.get("status") or 0,
        "statusText": "",
        "httpVersion": "unknown",
        "cookies": [],
        "headers": [] if kind is None else [{"name": "content-type", "value": kind}],
        "content": {
            "size": len(text.encode()),
            "mimeType": "application/json" if content else kind or "",
            "text": text,
            "comment": _PARSED,
        },
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": response.get("body_bytes", -1),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
