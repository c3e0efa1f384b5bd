"""What rules may say of endpoints unlike the others: tunnels, which nobody reads, telemetry and accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from extproc.conditions import condition
from extproc.endpoint import EndpointKind
from extproc.intercepted import DEFAULT_HOSTS, host_fault
from extproc.policy import Effect
from extproc.policy_approval import TOUCHES
from extproc.policy_model import RuleModel, When
from extproc.yaml_file import Fault

_TELEMETRY: Final = (
    "telemetry comes without identity, so no rule can decide about it: write `telemetry: block` or `telemetry: pass` at"
    " the top of the file instead"
)

_UNREAD: Final = ("models", "paths", "methods", "repositories", "upstreams")
"""What the gateway does not know of a tunnel."""


def conflicts(entry: Mapping[Any, Any]) -> Iterator[Fault]:
    """Yield faults between the endpoints of a rule and its other keys; it is not checked yet, places start at it."""
    when = entry.get("when")
    endpoints = when.get("endpoints") if isinstance(when, dict) else None
    if not isinstance(when, dict) or not isinstance(endpoints, list):
        return
    if EndpointKind.TELEMETRY in endpoints:
        yield ("when", "endpoints", endpoints.index(EndpointKind.TELEMETRY)), _TELEMETRY
    if EndpointKind.TUNNEL not in endpoints:
        return
    if not when.keys().isdisjoint(TOUCHES):
        yield ("when", "endpoints"), "what passes through a tunnel is not read, so a rule about touches cannot see it"
    elif entry.get("effect") == Effect.ALLOW:
        yield from _faults_of_opening(entry, when, endpoints)


def _faults_of_opening(entry: Mapping[Any, Any], when: Mapping[Any, Any], endpoints: list[Any]) -> Iterator[Fault]:
    if any(one != EndpointKind.TUNNEL for one in endpoints):
        yield ("when", "endpoints"), "a rule that opens tunnels is for nothing else: expected [tunnel] alone"
    if "hosts" not in when:
        yield ("when",), "a rule that opens tunnels must say where to: expected `hosts`, such as [packages.example.com]"
    for name in _UNREAD:
        if name in when:
            yield ("when", name), "a tunnel is not read, so the gateway cannot know this of it"
    if "credential" in entry:
        yield ("credential",), "a tunnel has no use for a credential"


def opens_tunnels(entry: RuleModel) -> bool:
    """Say whether a checked rule allows tunnels."""
    return entry.effect is Effect.ALLOW and EndpointKind.TUNNEL in entry.when.endpoints


def doubts(rules: Sequence[tuple[int, RuleModel]]) -> Iterator[Fault]:
    """Yield what rules about requests, given with their places in the list, probably do not mean."""
    if _lacks_account([entry.when for _, entry in rules if entry.effect is Effect.ALLOW]):
        yield ("rules",), _NO_ACCOUNT
    for index, entry in rules:
        for place, glob in enumerate(entry.when.hosts if opens_tunnels(entry) else ()):
            if text := _doubt_of_host(glob):
                yield ("rules", index, "when", "hosts", place), text


_NO_ACCOUNT: Final = (
    "no rule allows `account`: clients that exchange tokens (the language server, VS Code) cannot sign in; list it with"
    " the endpoints that have models"
)
_WITH_MODELS: Final = {EndpointKind.CHAT, EndpointKind.COMPLETIONS, EndpointKind.RESPONSES, EndpointKind.MESSAGES}


def _lacks_account(allowing: Sequence[When]) -> bool:
    # A condition on models never holds for an account: those requests name none.
    may = any(not when.models and EndpointKind.ACCOUNT in (when.endpoints or EndpointKind) for when in allowing)
    return not may and any(not _WITH_MODELS.isdisjoint(when.endpoints) for when in allowing)


def _doubt_of_host(glob: str) -> str | None:
    if host_fault(glob.casefold()) is not None:
        return 'expected a host such as packages.example.com, or "*." before one: this may match strangers, or nothing'
    read = [host for host in DEFAULT_HOSTS if condition("hosts", [glob]).accepts((host,))]
    return (
        f"{read[0]} is read, never tunnelled; what else this matches passes unread, prompts and all" if read else None
    )
