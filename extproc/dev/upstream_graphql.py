"""A corner of GitHub's GraphQL API: queries of `viewer` and `repository`; the answer has exactly the selected fields.

Source: GraphQL specification (October 2021), sections 2 and 7. Fragments, directives and mutations are not served.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

_TOKEN = re.compile(
    r'[\s,]*(?:#[^\n]*[\s,]*)*("(?:[^"\\\n]|\\.)*"|\$?[A-Za-z_]\w*|-?\d[\d.eE+-]*|[{}()\[\]:=!@|]|\.\.\.)'
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_MAX_DEPTH = 20
_Selection = dict[str, Any]

_ISSUE = {"number": 1, "title": "Demo issue", "body": "An issue of the demo upstream.", "state": "OPEN"}
_REPOSITORY = {
    "name": "app",
    "nameWithOwner": "demo/app",
    "isPrivate": True,
    "defaultBranchRef": {"name": "main"},
    "issues": {"totalCount": 1, "nodes": [_ISSUE]},
}
_DATA = {"viewer": {"login": "demo-gateway", "name": "Demo gateway"}, "repository": _REPOSITORY}


class _Fault(Exception):
    """Say why a query is refused."""


async def graphql(request: web.Request) -> web.Response:
    """Answer POST /graphql."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return web.json_response({"message": "Problems parsing JSON"}, status=400)
    try:
        data = _selected(_DATA, _parsed(body["query"]), "Query")
    except _Fault as fault:
        return web.json_response({"errors": [{"message": str(fault)}]})
    return web.json_response({"data": data})


def _parsed(query: str) -> _Selection:
    tokens, at = [], 0
    while rest := query[at:].strip(" \t\r\n,"):
        match = _TOKEN.match(query, at)
        if match is None:
            raise _Fault(f"Parse error on {rest[:1]!r}")
        tokens.append(match[1])
        at = match.end()
    tokens.reverse()
    if tokens and tokens[-1] in {"mutation", "subscription"}:
        raise _Fault(f"The demo upstream serves no {tokens[-1]}")
    if tokens and tokens[-1] == "query":
        while tokens and tokens[-1] != "{":
            tokens.pop()
    selection = _selection(tokens, _MAX_DEPTH)
    if tokens:
        raise _Fault(f"Parse error on {tokens[-1]!r}")
    return selection


def _selection(tokens: list[str], depth: int) -> _Selection:
    """Take a selection set from the end of the reversed tokens; a field without one of its own has None."""
    if not tokens or tokens.pop() != "{" or not depth:
        raise _Fault("Parse error: expected a selection")
    found: _Selection = {}
    while tokens and tokens[-1] != "}":
        name = tokens.pop()
        if not _NAME.fullmatch(name):
            raise _Fault(f"Parse error on {name!r}")
        if tokens and tokens[-1] == "(":
            while tokens and tokens.pop() != ")":
                pass
        found[name] = _selection(tokens, depth - 1) if tokens and tokens[-1] == "{" else None
    if not tokens or not found:
        raise _Fault("Parse error: a selection has no fields or no end")
    tokens.pop()
    return found


def _selected(value: object, selection: _Selection | None, kind: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_selected(entry, selection, kind) for entry in value]
    if not isinstance(value, Mapping):
        if selection is not None:
            raise _Fault(f"Selections can't be made on scalars (field '{kind}')")
        return value
    if selection is None:
        raise _Fault(f"Field must have selections (field '{kind}')")
    for name in selection:
        if name not in value:
            raise _Fault(f"Field '{name}' doesn't exist on type '{kind}'")
    return {name: _selected(value[name], inner, name) for name, inner in selection.items()}
