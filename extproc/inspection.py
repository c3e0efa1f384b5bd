"""Look at what passes: mask and read requests, and choose what an answer must not show to this client. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from extproc import telemetry
from extproc.account import USER_PATH, endpoints_for, lead_here
from extproc.conversation import Prompt
from extproc.dialect.models import drop_models
from extproc.dialect.port import BadRequest
from extproc.endpoint import UNREAD, Endpoint, EndpointKind
from extproc.identity.principal import Principal
from extproc.masking.body import masked_json
from extproc.masking.finding import Direction, Finding
from extproc.masking.masker import Masker
from extproc.recording.turn import Gist, gist_of
from extproc.request import Request
from extproc.rules import Rules


@dataclass(frozen=True, slots=True)
class Inspected:
    """A request body as it may go on, what it says, and what masked it."""

    body: bytes
    prompt: Prompt | None
    gist: Gist | None
    masker: Masker


def inspected(body: bytes, encoding: str, kind: EndpointKind, rules: Rules, masker: Masker) -> Inspected | BadRequest:
    """Mask a request and read what is then in it; of some endpoints it need not be understood."""
    dialect = rules.dialects[kind]
    is_read = kind not in UNREAD
    try:
        if kind is EndpointKind.TELEMETRY:
            body = telemetry.readable(body, encoding)
        prompt = dialect.parse_request(body) if is_read else None
        masked = masked_json(body, masker, dialect) if body else body
        if is_read and masked is not body:
            prompt = dialect.parse_request(masked)
    except BadRequest as fault:
        return fault
    return Inspected(masked, prompt, gist_of(kind, prompt), masker)


def masked_head(request: Request, rules: Rules) -> tuple[dict[str, str | None], list[Finding]]:
    """Return what the record says in place of parts of the head that stay as they are on their way upstream."""
    masker = rules.masking.masker(Direction.PROMPT)
    repository = request.repository
    shown = {
        "path": masker.text(request.target, "path"),
        "repository": None if repository is None else masker.text(repository, "repository"),
    }
    return shown, masker.findings


def amendment(
    request: Request, endpoint: Endpoint, principal: Principal | None, rules: Rules
) -> Callable[[Any], bool] | None:
    """Return what takes out of a JSON answer what this client must not see, beside what its dialect does."""
    if endpoint.kind is EndpointKind.ACCOUNT and endpoint.path == USER_PATH:
        here = endpoints_for(request, rules.url)
        return lambda tree: lead_here(tree, here, rules.intercepted)
    if endpoint.kind is not EndpointKind.MODELS or principal is None:
        return None
    offers, repository = rules.policy.offers, request.repository
    host, upstream = request.host, endpoint.upstream
    return lambda tree: drop_models(
        tree,
        lambda model, kinds: offers(
            principal, model=model, endpoints=kinds, host=host, upstream=upstream, repository=repository
        ),
    )
