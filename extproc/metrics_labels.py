"""The values of labels that come from outside: bounded, whatever clients and upstreams say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from extproc.endpoint import EndpointKind
from extproc.identity.principal import Principal
from extproc.policy import Policy

OTHER: Final = "other"
"""What everything else is counted as."""

MAX_LEARNED: Final = 50
"""So many models that the policy does not name get a label of their own."""

_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._:/@+-]{0,63}")

OPERATIONS: Final[Mapping[EndpointKind, str]] = {
    EndpointKind.CHAT: "chat",
    EndpointKind.RESPONSES: "chat",
    EndpointKind.MESSAGES: "chat",
    EndpointKind.COMPLETIONS: "text_completion",
    EndpointKind.EMBEDDINGS: "embeddings",
    EndpointKind.AGENTS: "invoke_agent",
}
"""`gen_ai.operation.name` of the endpoints behind which a model answers (OpenTelemetry, GenAI attribute registry)."""


class Labels:
    """Name models and groups in metrics: `models` by the names given and the first others that answer.

    `groups` are the policy's names by the ids that issuers send.
    """

    def __init__(self, models: Iterable[str] = (), groups: Mapping[str, str] | None = None) -> None:
        self._models = {model.casefold() for model in models}
        self._room = MAX_LEARNED
        self._groups = dict(groups or {})

    def model(self, name: str | None, *, has_answered: bool = False) -> str:
        """Return the label of a model; one that nobody knows yet gets its own only if `has_answered`.

        A client may ask for anything: what no upstream answers for is no model, and must not take one's place.
        """
        folded = (name or "").casefold()
        if folded in self._models:
            return folded
        if has_answered and self._room and _MODEL.fullmatch(folded):
            self._room -= 1
            self._models.add(folded)
            return folded
        return OTHER

    def group(self, principal: Principal | None) -> str:
        """Return the alphabetically first name that the policy has for a group of the principal."""
        if principal is None:
            return OTHER
        names = self._groups
        return min([names[group] for group in principal.groups if group in names], default=OTHER)


def labels_of(policy: Policy) -> Labels:
    """Return the labels for a policy: its models but for globs, and its groups."""
    conditions = [condition for rule in policy.rules for condition in rule.conditions]
    conditions += [condition for protection in policy.protections for condition in protection.conditions]
    models = {name for one in conditions if one.name == "models" for name in one.written}
    named = {name for one in conditions if one.name == "groups" for name in one.written}
    groups: dict[str, str] = {}
    for name in sorted({*named, *policy.groups}):
        for group in policy.ids([name]):
            groups.setdefault(group, name)
    return Labels(filter(_MODEL.fullmatch, map(str.casefold, models)), groups)
