"""What the gateway answers in place of the upstream: refusals in the client's dialect, and what it knows. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from extproc.dialect.port import Dialect
from extproc.effects import Respond
from extproc.endpoint import EndpointKind
from extproc.errors import Refusal
from extproc.events import Headers
from extproc.identity.token import SIGN_IN
from extproc.recording.story import Story
from extproc.rules import Rules

DECISION_HEADER: Final = "x-gateway-decision-id"

REQUEST_ID_HEADER: Final = "x-github-request-id"
"""The language server takes no answer of GitHub's API for one without it; Copilot CLI shows it with every error."""

_SAYING: Final = frozenset({EndpointKind.CHAT, EndpointKind.RESPONSES, EndpointKind.MESSAGES})
"""The endpoints whose answers a person reads as something said: a refusal can be said there, too."""


def own_answer(story: Story, body: bytes) -> Respond:
    """Return a JSON answer of the gateway's own."""
    headers = [("content-type", "application/json"), ("cache-control", "no-store"), *_ids(story)]
    return Respond(200, headers, body, "gateway.answered", story.id)


def refusal_reply(story: Story, refusal: Refusal, rules: Rules) -> Respond:
    """Return how a client is told of a refusal before anything else was sent to it."""
    # Where no dialect is spoken the error has the shape every client of these hosts can read.
    kind = EndpointKind.CHAT if story.endpoint is None else story.endpoint.kind
    dialect = rules.dialects.get(kind, rules.dialects[EndpointKind.CHAT])
    said = _said_as_answer(story, refusal, kind, dialect) if rules.policy.refusals == "answer" else None
    if said is not None:
        content_type, body = said
        return Respond(200, [("content-type", content_type), *_ids(story)], body, refusal.code, story.id)
    headers = [("content-type", "application/json"), *_ids(story)]
    if refusal.status == 401:
        headers.append(("www-authenticate", "Bearer"))
        if SIGN_IN not in refusal.message:
            refusal = replace(refusal, message=f"{refusal.message} To sign in, {SIGN_IN}.")
    return Respond(refusal.status, headers, dialect.error_body(refusal, story.id), refusal.code, story.id)


def _said_as_answer(story: Story, refusal: Refusal, kind: EndpointKind, dialect: Dialect) -> tuple[str, bytes] | None:
    """Return the refusal of a prompt as a model would say it, with the type; None where it is none."""
    prompt, endpoint = story.prompt, story.endpoint
    # What a prompt would cost is not said in words.
    is_said = kind in _SAYING and endpoint is not None and not endpoint.path.endswith("/count_tokens")
    if not is_said or prompt is None or refusal.status not in {403, 422}:
        return None
    if prompt.stream:
        return "text/event-stream", dialect.stream().ending(refusal.message)
    asked = msgspec.json.encode({"id": story.id, "model": prompt.model})
    return "application/json", dialect.refused_answer(asked, refusal.message)


def _ids(story: Story) -> Headers:
    return [(DECISION_HEADER, story.id), (REQUEST_ID_HEADER, story.id)]
