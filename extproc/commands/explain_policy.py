"""What `extproc policy explain` answers: the rule that decides, and why the ones before it did not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from rich.console import Console

from extproc.approval.approval import ApprovalRule
from extproc.approval.tools import touches_of
from extproc.approval.touch import Act, Touch
from extproc.conversation import ToolCall
from extproc.endpoint import EndpointKind
from extproc.identity.principal import Principal
from extproc.policy import DEFAULT_RULE, Effect, Facts, Policy

_COLOURS = {Effect.ALLOW: "green", Effect.DENY: "red", Effect.REQUIRE_APPROVAL: "yellow"}


def touch_of(
    tool: str | None, act: Act | None, path: str | None, repository: str | None, branch: str | None
) -> Touch | None:
    """Return what a tool or an act would do, or None where the tool only reads."""
    if act is None:
        # Arguments that cannot be read may mean everything that the tool can do.
        act = next((one.act for one in touches_of(ToolCall("", tool or "", "{"))), None)
    return None if act is None else Touch(act, tool or act.value, path, repository, branch)


def of_request(policy: Policy, principal: Principal, facts: Facts) -> dict[str, Any]:
    """Explain a request; telemetry, which has no principal, is decided by a key of the file and not by rules."""
    if facts.endpoint is EndpointKind.TELEMETRY:
        effect = Effect.ALLOW if policy.telemetry == "pass" else Effect.DENY
        said = f"The policy says `telemetry: {policy.telemetry}`, for everybody."
        return {"effect": effect, "rule_id": "telemetry", "reason": said, "credential": None, "trials": []}
    trials = [asdict(trial) for trial in policy.explain(principal, facts)]
    return {**asdict(policy.decide(principal, facts)), "trials": trials}


def of_touch(policy: Policy, principal: Principal, facts: Facts, touch: Touch | None) -> dict[str, Any]:
    """Explain a touch; None is what only reads."""
    if touch is None:
        return _passing(DEFAULT_RULE, "The tool only reads.", None, [])
    trials = policy.explain_touch(principal, facts, touch)
    told = [asdict(trial) for trial in trials]
    judgements = policy.judge(principal, facts, [touch])
    if not judgements:
        return _passing(trials[-1].rule_id, "Nobody is asked.", touch, told)
    (judged,) = judgements
    return {
        "effect": judged.effect,
        "rule_id": judged.rule_id,
        "reason": judged.reason,
        "approval": None if judged.approval is None else _approval(judged.approval),
        "touch": msgspec.to_builtins(touch),
        "trials": told,
    }


def show(answer: dict[str, Any], console: Console) -> None:
    """Print an answer for people."""
    for trial in answer["trials"]:
        console.print(f"{'match' if trial['matched'] else '  -  '}  {trial['rule_id']}: {trial['why']}")
    effect = answer["effect"]
    console.print(f"{effect} by rule {answer['rule_id']}: {answer['reason']}", style=_COLOURS[effect])
    if approval := answer.get("approval"):
        console.print(
            f"approvers: {', '.join(approval['approvers'])}; wanted: {approval['count']};"
            f" within {approval['expires_seconds'] / 60:g} min; scopes: {', '.join(approval['scopes'])}"
        )


def _passing(rule_id: str, reason: str, touch: Touch | None, trials: list[dict[str, Any]]) -> dict[str, Any]:
    shown = None if touch is None else msgspec.to_builtins(touch)
    empty = {"approval": None, "touch": shown, "trials": trials}
    return {"effect": Effect.ALLOW, "rule_id": rule_id, "reason": reason, **empty}


def _approval(asked: ApprovalRule) -> dict[str, Any]:
    return {**asdict(asked), "approvers": sorted(asked.approvers), "scopes": list(asked.scopes)}
