"""Every route of the API in one table: who may use it, what it takes, and what it answers."""

from __future__ import annotations

from typing import Any, Final

from extproc.console.api import about, approvals, records, shapes
from extproc.console.api.route import ApiRoute
from extproc.console.configuration import Configuration
from extproc.console.roles import EVERYBODY, INVOLVED, OPERATORS, READERS, Role

BASE: Final = "/api/v1"
OPENAPI: Final = f"{BASE}/openapi.json"
"""The description of the API: the only path that needs no token, for there is nothing secret in it."""

_APPROVERS: Final = frozenset({Role.APPROVER})

ROUTES: Final = (
    ApiRoute("GET", "/me", about.me, None, about.Me, "Who the token is of."),
    ApiRoute(
        *("GET", "/overview", about.overview, EVERYBODY, about.Figures, "Figures of the last time."),
        query=about.OverviewQuery,
    ),
    ApiRoute(
        *("GET", "/sessions", records.list_sessions, READERS, shapes.Sessions, "List sessions."),
        query=shapes.SessionsQuery,
    ),
    ApiRoute(
        *("GET", "/sessions/{id}", records.show_session, READERS, shapes.Session, "Read a session; it is recorded."),
        query=shapes.SessionQuery,
        fails=(404,),
    ),
    ApiRoute(
        *("GET", "/exchanges/{id}", records.show_exchange, READERS, dict[str, Any]),
        "Read the document of an exchange; it is recorded.",
        fails=(404,),
    ),
    ApiRoute(
        *("GET", "/exchanges/{id}/receipt", records.show_receipt, READERS, dict[str, Any]),
        "Get what proves offline that an exchange was recorded.",
        query=shapes.ReceiptQuery,
        fails=(404, 409),
    ),
    ApiRoute(
        *("GET", "/findings", records.list_findings, READERS, shapes.Findings, "List findings."),
        query=shapes.FindingsQuery,
    ),
    ApiRoute(
        *("POST", "/findings/match", records.match_secret, READERS, shapes.Findings),
        "Find where a secret was seen.",
        body=shapes.Match,
        max_body=shapes.MAX_LONG_BODY_BYTES,
        fails=(408, 413),
    ),
    ApiRoute(
        *("POST", "/trace", records.trace_lines, READERS, shapes.Traced),
        "Find the suggestions that lines come from; it is recorded.",
        body=shapes.Trace,
        max_body=shapes.MAX_LONG_BODY_BYTES,
        fails=(408, 413),
    ),
    ApiRoute(
        *("GET", "/approvals", approvals.list_approvals, INVOLVED, shapes.Approvals, "List approvals."),
        query=shapes.ApprovalsQuery,
    ),
    ApiRoute(
        *("GET", "/approvals/{id}", approvals.show_approval, INVOLVED, shapes.ApprovalDetail),
        "Look at an approval and the proposed change; it is recorded.",
        fails=(404,),
    ),
    ApiRoute(
        *("POST", "/approvals/{id}/approve", approvals.approve, _APPROVERS, shapes.ApprovalRow, "Approve what waits."),
        body=shapes.Answer,
        fails=(404, 408, 409, 413),
    ),
    ApiRoute(
        *("POST", "/approvals/{id}/deny", approvals.deny, _APPROVERS, shapes.ApprovalRow, "Deny what waits."),
        body=shapes.Answer,
        fails=(404, 408, 409, 413),
    ),
    ApiRoute("GET", "/configuration", about.configuration, OPERATORS, Configuration, "Read the configuration."),
)
