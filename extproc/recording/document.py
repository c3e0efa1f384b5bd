"""The document of an exchange: an opening entry before anything is released, a closing entry when all is known.

Entries are JSON objects, given as dictionaries; `merged` joins both into the one document that readers see. Times
are unix seconds; everything inside `timing` is in milliseconds after `opened_at`. The format is described for readers
in docs/recording.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import msgspec

from extproc.conversation import Answer, Choice, Prompt, ToolCall
from extproc.errors import Refusal
from extproc.headers import ClientFacts
from extproc.identity.principal import Principal
from extproc.masking.finding import Finding
from extproc.policy import Decision
from extproc.tool_paths import touched

VERSION = 1

_CLIENT_FIELDS = [one.name for one in fields(ClientFacts)]


class Outcome(StrEnum):
    """How an exchange ended."""

    COMPLETED = "completed"
    DENIED = "denied"
    ABORTED = "aborted"  # by the client
    UPSTREAM_ERROR = "upstream_error"
    FAILED = "failed"  # by this gateway
    INTERRUPTED = "interrupted"  # the gateway stopped or died in the middle


@dataclass(slots=True)
class Timing:
    """When things happened, in milliseconds after the exchange was opened; None for what never happened."""

    released: float | None = None
    response_headers: float | None = None
    pieces: list[tuple[float, str, int]] = field(default_factory=list)
    """What arrived together of a stream: time, channel, and how many characters it added to that channel."""
    held: list[float] = field(default_factory=list)
    """How many seconds masking held what left a stream together, by its oldest event; for metrics, not recorded."""


def opening(
    *,
    exchange_id: str,
    session: str,
    opened_at: float,
    principal: Principal | None,
    decision: Decision | None,
    policy_digest: str,
    client: ClientFacts,
    client_address: str | None,
    tunnel: str | None = None,
    trace: str | None = None,
    request: Mapping[str, Any],
    prompt: Prompt | None,
    body_bytes: int,
    findings: Sequence[Finding] = (),
    masking: Mapping[str, Any] | None = None,
    turn: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Build the entry that must be durable before the request leaves.

    `findings` are those of the prompt; `masking` says under `prompt` what looked for them, None that nobody looked.
    `tunnel` is the decision id of the CONNECT around it, None where the client spoke to the gateway itself. `trace` is
    the client's trace id.
    `turn` has `id`, `retry_of` and `purpose`; it is None where no model is asked.
    """
    return {
        "v": VERSION,
        "id": exchange_id,
        "session": session,
        "turn": turn,
        "opened_at": opened_at,
        "principal": None if principal is None else _principal(principal),
        "decision": None if decision is None else {"id": exchange_id, **_decision(decision), "policy": policy_digest},
        "client": {
            "address": client_address,
            "tunnel": tunnel,
            "trace": trace,
            **{name: getattr(client, name) for name in _CLIENT_FIELDS},
        },
        "request": {**request, "body_bytes": body_bytes, **_prompt(prompt)},
        "findings": msgspec.to_builtins(list(findings)),
        "masking": masking,
    }


def closing(
    *,
    exchange_id: str,
    opened_at: float,
    closed_at: float,
    outcome: Outcome,
    refusal: Refusal | None,
    status: int | None,
    upstream_status: int | None,
    content_type: str | None,
    body_bytes: int,
    answer: Answer | None,
    timing: Timing,
    findings: Sequence[Finding] = (),
    masking: Mapping[str, Any] | None = None,
    approvals: Sequence[Mapping[str, Any]] = (),
    tunnelled: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Build the entry that must be durable before the end of the response is released.

    `tunnelled` is for tunnels: the bytes `received` from the client and `sent` to it.
    `findings` are those of the answer; `masking` says under `answer` what looked for them, None that nobody looked.
    """
    return {
        "v": VERSION,
        "id": exchange_id,
        "closed_at": closed_at,
        "outcome": outcome,
        "error": None if refusal is None else {"code": refusal.code, "message": refusal.message},
        "response": {
            "status": status,
            "upstream_status": upstream_status,
            "content_type": content_type,
            "body_bytes": body_bytes,
            **_answer(answer),
        },
        "timing": {
            "released": timing.released,
            "response_headers": timing.response_headers,
            "first_piece": timing.pieces[0][0] if timing.pieces else None,
            "pieces": timing.pieces,
            "closed": round((closed_at - opened_at) * 1000, 3),
        },
        "findings": msgspec.to_builtins(list(findings)),
        "masking": masking,
        "approvals": list(approvals),
        **({} if tunnelled is None else {"tunnelled": dict(tunnelled)}),
    }


def merged(opened: Mapping[str, Any], closed: Mapping[str, Any]) -> dict[str, Any]:
    """Join opening and closing of an exchange into its document; old ones lack the members that came later."""
    return {
        **opened,
        **closed,
        "findings": [*opened.get("findings", ()), *closed.get("findings", ())],
        "masking": {**(opened.get("masking") or {}), **(closed.get("masking") or {})} or None,
        "approvals": closed.get("approvals", []),
    }


def _principal(principal: Principal) -> dict[str, Any]:
    return {
        "id": principal.id,
        "name": principal.name,
        "kind": principal.kind,
        "issuer": principal.issuer,
        "groups": sorted(principal.groups),
        "roles": sorted(principal.roles),
        "claims": dict(principal.claims),
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "effect": decision.effect,
        "rule": decision.rule_id,
        "reason": decision.reason,
        "credential": decision.credential,
    }


def _prompt(prompt: Prompt | None) -> dict[str, Any]:
    if prompt is None:
        return {"model": None}
    fields = {"model": prompt.model, "messages": prompt.messages, "tools": prompt.tools, "stream": prompt.stream}
    # Only where the client itself calls tools (MCP): a model's calls are in the answer.
    return {**fields, "tool_calls": [_call(call) for call in prompt.tool_calls]} if prompt.tool_calls else fields


def _answer(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {}
    choices = [_choice(choice) for choice in answer.choices]
    usage = answer.usage
    first: Mapping[str, Any] = choices[0] if choices else {}
    fields = {
        "model": answer.model,
        "text": first.get("text"),
        "reasoning": first.get("reasoning"),
        "tool_calls": first.get("tool_calls", []),
        "finish_reason": first.get("finish_reason"),
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "complete": answer.complete,
        "error": answer.error,
    }
    # Nearly every answer has one choice; the others are kept beside it only where they exist.
    if len(choices) > 1:
        fields["choices"] = choices
    if answer.unparsed:
        fields["unparsed"] = answer.unparsed
    return fields


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.text,
        "reasoning": choice.reasoning,
        "tool_calls": [_call(call) for call in choice.tool_calls],
        "finish_reason": choice.finish_reason,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments, "paths": touched(call)}
