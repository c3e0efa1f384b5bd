"""Describe the API in OpenAPI 3.1, from the very table that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any, Final

import msgspec

from extproc.console.api.route import ApiRoute, Nothing
from extproc.console.api.shapes import Error

_REFERENCE: Final = "#/components/schemas/{name}"
_ALWAYS: Final = {
    401: "The token is missing, or not valid.",
    403: "Nobody with these groups may do that.",
    404: "There is no such thing, or it is not for the one who asks: nobody can tell which.",
    408: "The body did not arrive in time.",
    409: "It cannot be done as things stand.",
    413: "The body is too long.",
    422: "The query or the body is not as expected.",
    429: "Too much that the same person asked for is still being looked up.",
    503: "What is needed for an answer does not work at the moment, so nothing is shown.",
}
_EVERYWHERE: Final = (401, 403, 422, 429, 503)


def document(routes: Sequence[ApiRoute], base: str, url: str) -> dict[str, Any]:
    """Return the description of routes whose paths start at `base` of the server at `url`."""
    kinds = [kind for route in routes for kind in (route.answer, route.body, route.query)]
    schemas, components = msgspec.json.schema_components([*kinds, Error], ref_template=_REFERENCE)
    queries = {route.query.__name__: components[route.query.__name__] for route in routes}
    for name in queries:
        # They are told as parameters.
        del components[name]
    for component in components.values():
        component["description"] = cleandoc(component["description"])
    paths: dict[str, Any] = {}
    for at, route in enumerate(routes):
        answer, body, _ = schemas[3 * at : 3 * at + 3]
        operation = {
            "operationId": route.handler.__name__,
            "summary": route.summary,
            "description": _for_whom(route),
            "parameters": _parameters(route, queries[route.query.__name__]),
            "responses": _responses(route, answer, schemas[-1]),
        }
        if route.body is not Nothing:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        paths.setdefault(base + route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "copilot-extproc console", "version": "1", "description": _ABOUT},
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_ABOUT: Final = (
    "What was recorded of exchanges with models, and the approvals that wait. A token is one of an issuer that the"
    " gateway trusts; its groups decide what it may see. Times are unix seconds unless they say otherwise."
)


def _for_whom(route: ApiRoute) -> str:
    if route.roles is None:
        return "For whoever has a valid token."
    return f"For the role {' or '.join(sorted(route.roles))}."


def _parameters(route: ApiRoute, query: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{id}" in route.path:
        found.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    for name, schema in query["properties"].items():
        found.append({"name": name, "in": "query", "required": False, **_given(schema)})
    return found


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a parameter is that is given: in a URL there is no null."""
    (only, *_) = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    given = {name: value for name, value in only.items() if name != "description"}
    return {"schema": given, **({"description": only["description"]} if "description" in only else {})}


def _responses(route: ApiRoute, answer: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    failed = {"application/json": {"schema": error}}
    told = {
        str(status): {"description": _ALWAYS[status], "content": failed}
        for status in sorted({*_EVERYWHERE, *route.fails})
    }
    return {"200": {"description": "Done.", "content": {"application/json": {"schema": answer}}}, **told}
