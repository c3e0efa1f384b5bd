from __future__ import annotations

from typing import Literal

import pytest

from extproc.commands import explain_policy
from extproc.conditions import condition
from extproc.endpoint import EndpointKind, Upstream
from extproc.identity.principal import Principal
from extproc.policy import Effect, Facts, Policy, rule

ALICE = Principal("https://i#1", "alice", "person", "https://i", "1")
OPENING = rule(
    "packages", Effect.ALLOW, [condition("endpoints", ["tunnel"]), condition("hosts", ["packages.example.com"])]
)


def asked(endpoint: EndpointKind, host: str) -> Facts:
    """Return what the command makes of `--endpoint` and `--host` with its defaults for all else."""
    return Facts(endpoint, Upstream.COPILOT_API, "POST", host, "/chat/completions")


@pytest.mark.parametrize(
    ("host", "effect"), [("packages.example.com", Effect.ALLOW), ("other.example.com", Effect.DENY)]
)
def test_a_tunnel_is_explained_by_its_host_alone(host: str, effect: Effect) -> None:
    policy = Policy((rule("all", Effect.ALLOW, []), OPENING), (), None, "0" * 64)
    answer = explain_policy.of_request(policy, ALICE, asked(EndpointKind.TUNNEL, host))
    assert answer["effect"] is effect
    first, second, *_ = answer["trials"]
    assert first == {
        "rule_id": "all",
        "matched": False,
        "why": "endpoints: only a rule that names tunnel opens one",
    }
    assert second["matched"] is (effect is Effect.ALLOW)


@pytest.mark.parametrize(("telemetry", "effect"), [("pass", Effect.ALLOW), ("block", Effect.DENY)])
def test_telemetry_is_explained_by_its_key_and_not_by_rules(
    telemetry: Literal["block", "pass"], effect: Effect
) -> None:
    policy = Policy((rule("all", Effect.ALLOW, []),), (), None, "0" * 64, telemetry=telemetry)
    answer = explain_policy.of_request(policy, ALICE, asked(EndpointKind.TELEMETRY, "h"))
    assert (answer["effect"], answer["rule_id"], answer["trials"]) == (effect, "telemetry", [])
    assert f"`telemetry: {telemetry}`" in answer["reason"]
