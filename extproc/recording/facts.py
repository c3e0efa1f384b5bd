"""The facts of an exchange that stand in its head: what one searches and keeps records by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_LISTED: Final = 100
"""Longest list in a head; more is in the body. Heads stay small: they are kept longest, and paid for by size."""

MAX_CHARS: Final = 512
"""Longest text in a head."""


def facts_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a merged document (`extproc.recording.document.merged`).

    Only strings, integers, null and lists of them, as heads must be. `closed_at` is in microseconds of unix time, a
    finding's `at` in milliseconds after the opening. A list that was cut has `<name>_more` beside it: how many are only
    in the body.
    """
    request, response = document["request"], document.get("response") or {}
    principal, decision = document.get("principal") or {}, document.get("decision") or {}
    usage, error, client = response.get("usage") or {}, document.get("error") or {}, document["client"]
    closed_at = document.get("closed_at")
    facts = {
        "user": principal.get("name"),
        "principal": principal.get("id"),
        "groups": list(principal.get("groups") or ()),
        "client": client.get("user_agent"),
        "address": client.get("address"),
        "endpoint": request.get("endpoint"),
        "upstream": request.get("upstream"),
        "model": request.get("model") or response.get("model"),
        "repository": request.get("repository"),
        "rule": decision.get("rule"),
        "outcome": document.get("outcome"),
        "code": error.get("code"),
        "status": response.get("status"),
        "closed_at": None if closed_at is None else microseconds(closed_at),
        "input_tokens": _count(usage.get("input_tokens")),
        "output_tokens": _count(usage.get("output_tokens")),
        "paths": _paths(request, response),
        "findings": [{**one, "at": round(one["at"])} for one in document.get("findings") or ()],
        "approvals": [one["id"] for one in document.get("approvals") or ()],
    }
    return bounded(facts)


def bounded(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts of bounded size whose text is all encodable."""
    result: dict[str, Any] = {}
    for name, value in facts.items():
        # Most are nothing, or short and plain: they cost nothing.
        if not value or (isinstance(value, str) and len(value) <= MAX_CHARS and value.isascii()):
            result[name] = value
            continue
        result[name] = _bounded_value(value)
        if isinstance(value, list) and len(value) > MAX_LISTED:
            result[f"{name}_more"] = len(value) - MAX_LISTED
    return result


def microseconds(seconds: float) -> int:
    """Return a time as heads have it; a double holds today's unix time to a quarter of a microsecond."""
    return round(seconds * 1_000_000)


def _bounded_value(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        if len(value) <= MAX_CHARS and value.isascii():
            return value
        # Half surrogates have no bytes; the body has the text in full.
        return value[:MAX_CHARS].encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_bounded_value(one) for one in value[:MAX_LISTED]]
    if isinstance(value, dict):
        return {name: _bounded_value(one) for name, one in value.items()}
    return value


def _paths(request: Mapping[str, Any], response: Mapping[str, Any]) -> list[str]:
    calls = [call for choice in response.get("choices") or (response,) for call in choice.get("tool_calls") or ()]
    calls += request.get("tool_calls") or ()
    return sorted({path for call in calls for path in call.get("paths") or ()}) if calls else []


def _count(value: Any) -> int | None:  # noqa: ANN401 - what an upstream counted
    # Beyond 2^53 other readers of JSON lose digits, and so would the hash.
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else None
