"""Decide whether a principal may do what a request asks: ordered rules, the first match wins, no match is a denial.

Pure. `policy_file` reads the rules from YAML; `docs/policy.md` is the guide for those who write them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from extproc.approval.protection import Effect, Judgement, Protection, judge
from extproc.approval.touch import Touch
from extproc.conditions import Condition, Seen, all_hold, fold_path
from extproc.endpoint import API_UPSTREAMS, EndpointKind, Upstream
from extproc.identity.principal import Principal
from extproc.masking.policy import MaskingPolicy

__all__ = ["DEFAULT_RULE", "Decision", "Effect", "Facts", "Passthrough", "Policy", "Rule", "Trial", "rule"]

DEFAULT_RULE = "default"

_TOKEN_PATHS = ("/copilot_internal/v2/",)

# What a rule sees of a tunnel besides its host: the gateway does not read what passes through it.
_OF_A_TUNNEL: Seen = {
    "models": (),
    "upstreams": (Upstream.TUNNEL,),
    "methods": ("CONNECT",),
    "paths": (),
    "repositories": (),
}

# Where clients send what the models of a list are for; `endpoint_of` must name these paths so.
_MODEL_PATHS = {
    EndpointKind.CHAT: "/chat/completions",
    EndpointKind.RESPONSES: "/responses",
    EndpointKind.MESSAGES: "/v1/messages",
    EndpointKind.EMBEDDINGS: "/embeddings",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What policy may know of a request.

    `path` is the upstream's path as received, without its query, after `endpoint.path_fault` found nothing; `host` is
    the `:authority` without its port; `model` and `repository` (`OWNER/NAME`) are None where the request has none. Of a
    tunnel only `endpoint` and `host` count.
    """

    endpoint: EndpointKind
    upstream: Upstream
    method: str
    host: str
    path: str
    model: str | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of policy to a request: allow or deny.

    `reason` may be shown to the client, `credential` names the upstream one of an allow.
    """

    effect: Literal[Effect.ALLOW, Effect.DENY]
    rule_id: str
    reason: str
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of an explanation: a rule that was tried, and why it did or did not match."""

    rule_id: str
    matched: bool
    why: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, all of which must hold, and the decision that follows; no conditions match every request."""

    conditions: tuple[Condition, ...]
    decision: Decision

    def matches(self, seen: Seen) -> bool:
        """Say whether every condition holds."""
        return all_hold(self.conditions, seen)

    def may_decide_tunnels(self) -> bool:
        """Say whether the rule is for tunnels, too: what allows "everything" must not open tunnels to anywhere."""
        return self.decision.effect is Effect.DENY or any(one.name == "endpoints" for one in self.conditions)

    def objections(self, seen: Seen) -> list[str]:
        """Say which conditions do not hold, and why."""
        return [one.objection(seen) for one in self.conditions if not one.holds(seen)]


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Requests that are passed on without a dialect; `upstream` None means any, `path` comes from `path_glob`."""

    method: str
    upstream: Upstream | None
    path: re.Pattern[str]


_NO_RULE = Decision(Effect.DENY, DEFAULT_RULE, "No rule of the gateway's policy allows this request.")


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file, ready to decide; `digest` is the SHA-256 of the file's bytes in hex, for records.

    `rules` decide about requests, `protections` about what an exchange would do, whether the client or the model asks.
    `telemetry` says what happens to what clients tell about themselves, which has no principal and so no rules;
    `refusals` whether the refusal of a prompt is an HTTP error or an answer in the dialect, whose text says it.
    """

    rules: tuple[Rule, ...]
    metadata: tuple[Passthrough, ...]
    credential: str | None
    digest: str
    masking: MaskingPolicy = field(default_factory=MaskingPolicy)
    protections: tuple[Protection, ...] = ()
    telemetry: Literal["block", "pass"] = "block"
    refusals: Literal["error", "answer"] = "error"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names that the file gives to groups, each with the issuers' ids of it."""

    def ids(self, groups: Iterable[str]) -> frozenset[str]:
        """Return the issuers' ids of groups, which may be names of the file."""
        return frozenset(one for group in groups for one in self.groups.get(group, (group,)))

    def approvers(self) -> frozenset[str]:
        """Return the ids of all groups that some rule names as approvers."""
        asked = (one.approval.approvers for one in self.protections if one.approval is not None)
        return frozenset[str]().union(*asked)

    def decide(self, principal: Principal, facts: Facts) -> Decision:
        """Return the decision of the first rule that matches, or the denial that is the default."""
        seen = _seen(principal, facts)
        rules: Iterable[Rule] = self.rules
        if facts.endpoint is EndpointKind.TUNNEL:
            rules = filter(Rule.may_decide_tunnels, rules)
        for rule in rules:
            if rule.matches(seen):
                return rule.decision
        return _NO_RULE

    def offers(
        self,
        principal: Principal,
        *,
        model: str,
        endpoints: Collection[EndpointKind],
        host: str,
        upstream: Upstream,
        repository: str | None,
    ) -> bool:
        """Say whether the principal may use a model that a list names, through any of the endpoints given.

        `host`, `upstream` and `repository` are those of the request for the list. Completions may also go to the proxy
        that Copilot has for them. Other endpoints than those behind which a model answers count for nothing.
        """
        asked = [(kind, upstream, _MODEL_PATHS[kind]) for kind in endpoints if kind in _MODEL_PATHS]
        if EndpointKind.COMPLETIONS in endpoints:
            path = f"/v1/engines/{model}/completions"
            asked += [(EndpointKind.COMPLETIONS, to, path) for to in {upstream, Upstream.COPILOT_PROXY}]
        return any(
            self.decide(principal, Facts(kind, to, "POST", host, path, model, repository)).effect is Effect.ALLOW
            for kind, to, path in asked
        )

    def explain(self, principal: Principal, facts: Facts) -> list[Trial]:
        """Return one line for each rule tried, in order; the last one is what `decide` answers."""
        seen = _seen(principal, facts)
        trials: list[Trial] = []
        is_tunnel = facts.endpoint is EndpointKind.TUNNEL
        for rule in self.rules:
            objections = rule.objections(seen)
            if is_tunnel and not rule.may_decide_tunnels():
                objections.append(f"endpoints: only a rule that names {EndpointKind.TUNNEL} opens one")
            if not objections:
                holding = ", ".join(c.name for c in rule.conditions) or "no conditions"
                return [*trials, Trial(rule.decision.rule_id, matched=True, why=f"{rule.decision.effect}: {holding}")]
            trials.append(Trial(rule.decision.rule_id, matched=False, why="; ".join(objections)))
        return [*trials, Trial(DEFAULT_RULE, matched=True, why=f"{_NO_RULE.effect}: no rule matched")]

    def protects(self, principal: Principal, facts: Facts) -> bool:
        """Say whether a protection is for this principal and request, so that touches must be looked for."""
        if not self.protections:
            return False
        # Most have conditions on the touch alone.
        if not all(one.conditions for one in self.protections):
            return True
        seen = _seen(principal, facts)
        return any(one.concerns(seen) for one in self.protections)

    def judge(self, principal: Principal, facts: Facts, touches: Sequence[Touch]) -> list[Judgement]:
        """Return what must not be done, or not without an approval: one entry for each rule that says so.

        The first protection that matches a touch decides about it; a touch that none matches passes. Denials come
        first, then the order of the file.
        """
        if not self.protections or not touches:
            return []
        seen = _seen(principal, facts)
        concerned = [one for one in self.protections if one.concerns(seen)]
        return judge(concerned, touches, facts.repository)

    def explain_touch(self, principal: Principal, facts: Facts, touch: Touch) -> list[Trial]:
        """Return one line for each protection tried, in order; the last one is what `judge` answers."""
        seen = _seen(principal, facts)
        trials: list[Trial] = []
        for one in self.protections:
            objections = one.objections(seen, touch, facts.repository)
            if not objections:
                return [*trials, Trial(one.rule_id, matched=True, why=f"{one.effect}: {', '.join(one.names())}")]
            trials.append(Trial(one.rule_id, matched=False, why="; ".join(objections)))
        return [*trials, Trial(DEFAULT_RULE, matched=True, why=f"{Effect.ALLOW}: no protection matched")]

    def is_metadata(self, method: str, upstream: Upstream, path: str) -> bool:
        """Say whether the file lists this request as metadata; `path` as in `Facts`, `method` is compared exactly."""
        # An entry without an upstream is for the APIs: a client chooses the upstream by its host, and what was written
        # for an API must not let it take the credential to another place.
        wanted = {None, upstream} if upstream in API_UPSTREAMS else {upstream}
        folded = fold_path(path)
        # The answer of a token endpoint is a credential: no glob of a policy may hand that to a caller.
        return not folded.startswith(_TOKEN_PATHS) and any(
            entry.method == method and entry.upstream in wanted and entry.path.fullmatch(folded) is not None
            for entry in self.metadata
        )

    def credentials(self) -> frozenset[str]:
        """Return every credential name the file refers to, so that the configuration can check that they exist."""
        named = {self.credential, *(rule.decision.credential for rule in self.rules)}
        return frozenset(name for name in named if name is not None)


def rule(
    rule_id: str, effect: Effect, conditions: Sequence[Condition], *, reason: str = "", credential: str | None = None
) -> Rule:
    """Build a rule for requests; a denial without a reason gets one, and never carries a credential.

    Raises:
        ValueError: the effect is require-approval, which is for touches: no answer to a request says it.

    """
    if effect is Effect.REQUIRE_APPROVAL:
        raise ValueError(f"{rule_id}: an approval can only be asked for touches")
    if effect is Effect.DENY:
        reason = reason or f'The rule "{rule_id}" of the gateway\'s policy denies this request.'
        credential = None
    return Rule(tuple(conditions), Decision(effect, rule_id, reason, credential))


def _plain_name(name: str) -> tuple[str, ...]:
    # Ids have a `#` or a `:`, and a name may be what somebody chose to be called: it must not pass for an id.
    return () if "#" in name or ":" in name else (name,)


def _seen(principal: Principal, facts: Facts) -> Seen:
    seen: Seen = {
        "groups": principal.groups,
        "roles": principal.roles,
        "users": (principal.id, *_plain_name(principal.name)),
        "kinds": (principal.kind,),
        "issuers": (principal.issuer,),
        "endpoints": (facts.endpoint,),
        "models": () if facts.model is None else (facts.model.casefold(),),
        "upstreams": (facts.upstream,),
        "hosts": (facts.host.casefold().removesuffix("."),),
        "methods": (facts.method.upper(),),
        "paths": (fold_path(facts.path),),
        "repositories": () if facts.repository is None else (facts.repository.casefold(),),
        **{f"claims.{name}": (value,) for name, value in principal.claims.items()},
    }
    return {**seen, **_OF_A_TUNNEL} if facts.endpoint is EndpointKind.TUNNEL else seen
