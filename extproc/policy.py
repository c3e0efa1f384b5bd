"""Decide whether a principal may do what a request asks: ordered rules, the first match wins, no match is a denial.

Pure. `policy_file` reads the rules from YAML; `docs/policy.md` is the guide for those who write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from extproc.endpoint import EndpointKind, Upstream
from extproc.globs import IN_SEGMENT, path_regex, text_regex
from extproc.identity.principal import Principal
from extproc.masking.policy import MaskingPolicy

DEFAULT_RULE = "default"

_TOKEN_PATHS = ("/copilot_internal/v2/",)


# Approval will be a third member: match on the members, never on "is not DENY".
class Effect(StrEnum):
    """What a rule does with a request that matches it."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Facts:
    """What policy may know of a request.

    `path` is the upstream's path as received, without its query, after `endpoint.path_fault` found nothing; `host` is
    the `:authority` without its port; `model` and `repository` (`OWNER/NAME`) are None where the request has none.
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
    """The answer of policy; `reason` may be shown to the client, `credential` names the upstream one of an allow."""

    effect: Effect
    rule_id: str
    reason: str
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of an explanation: a rule that was tried, and why it did or did not match."""

    rule_id: str
    matched: bool
    why: str


# What one request shows to conditions, by the name of the condition. A fact the request lacks has no values, and a
# condition on no values never holds.
Seen = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of a rule's `when`: it holds when any value of the request is one that the rule names.

    `name` is the key (`groups`, `claims.ref`), `written` the values as the file has them.
    """

    name: str
    written: tuple[str, ...]
    accepts: Callable[[Collection[str]], bool]

    def holds(self, seen: Seen) -> bool:
        """Say whether the request has a value that is named here."""
        return self.accepts(seen.get(self.name, ()))

    def objection(self, seen: Seen) -> str:
        """Say in a few words why the condition does not hold."""
        values = seen.get(self.name, ())
        return f"{self.name}: {_listing(sorted(values)) or 'the request has none'}, wanted {_listing(self.written)}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, all of which must hold, and the decision that follows; no conditions match every request."""

    conditions: tuple[Condition, ...]
    decision: Decision

    def matches(self, seen: Seen) -> bool:
        """Say whether every condition holds."""
        # 20 rules took 8 µs so, and 17 µs with `all` of a generator.
        for each in self.conditions:  # noqa: SIM110 - half the time, see above
            if not each.accepts(seen.get(each.name, ())):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Requests that are passed on without a dialect; `upstream` None means any, `path` comes from `path_glob`."""

    method: str
    upstream: Upstream | None
    path: re.Pattern[str]


_NO_RULE = Decision(Effect.DENY, DEFAULT_RULE, "No rule of the gateway's policy allows this request.")


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file, ready to decide; `digest` is the SHA-256 of the file's bytes in hex, for records."""

    rules: tuple[Rule, ...]
    metadata: tuple[Passthrough, ...]
    credential: str | None
    digest: str
    masking: MaskingPolicy = field(default_factory=MaskingPolicy)

    def decide(self, principal: Principal, facts: Facts) -> Decision:
        """Return the decision of the first rule that matches, or the denial that is the default."""
        seen = _seen(principal, facts)
        for rule in self.rules:
            if rule.matches(seen):
                return rule.decision
        return _NO_RULE

    def explain(self, principal: Principal, facts: Facts) -> list[Trial]:
        """Return one line for each rule tried, in order; the last one is what `decide` answers."""
        seen = _seen(principal, facts)
        trials: list[Trial] = []
        for rule in self.rules:
            objections = [c.objection(seen) for c in rule.conditions if not c.holds(seen)]
            if not objections:
                holding = ", ".join(c.name for c in rule.conditions) or "no conditions"
                return [*trials, Trial(rule.decision.rule_id, matched=True, why=f"{rule.decision.effect}: {holding}")]
            trials.append(Trial(rule.decision.rule_id, matched=False, why="; ".join(objections)))
        return [*trials, Trial(DEFAULT_RULE, matched=True, why=f"{_NO_RULE.effect}: no rule matched")]

    def is_metadata(self, method: str, upstream: Upstream, path: str) -> bool:
        """Say whether the file lists this request as metadata; `path` as in `Facts`, `method` is compared exactly."""
        folded = _fold_path(path)
        # The answer of a token endpoint is a credential: no glob of a policy may hand that to a caller.
        return not folded.startswith(_TOKEN_PATHS) and any(
            entry.method == method and entry.upstream in {None, upstream} and entry.path.fullmatch(folded) is not None
            for entry in self.metadata
        )

    def credentials(self) -> frozenset[str]:
        """Return every credential name the file refers to, so that the configuration can check that they exist."""
        named = {self.credential, *(rule.decision.credential for rule in self.rules)}
        return frozenset(name for name in named if name is not None)


def rule(
    rule_id: str, effect: Effect, conditions: Sequence[Condition], *, reason: str = "", credential: str | None = None
) -> Rule:
    """Build a rule; a denial without a reason gets one, and never carries a credential."""
    if effect is Effect.DENY:
        reason = reason or f'The rule "{rule_id}" of the gateway\'s policy denies this request.'
        credential = None
    return Rule(tuple(conditions), Decision(effect, rule_id, reason, credential))


def condition(name: str, written: Sequence[str], values: Collection[str] | None = None) -> Condition:
    """Build the condition `name` (`models`, `claims.ref`, …); `values` replaces what is written where that is an alias.

    Raises:
        ValueError: a glob is malformed; the text says how.

    """
    wanted = written if values is None else values
    to_regex = _GLOBS.get(name.partition(".")[0])
    if to_regex is None:
        return Condition(name, tuple(written), _any_of(frozenset(wanted)))
    regex = re.compile("|".join(f"(?:{to_regex(glob)})" for glob in wanted) or "(?!)", re.DOTALL)
    return Condition(name, tuple(written), _any_like(regex))


def path_glob(glob: str) -> re.Pattern[str]:
    """Compile a path glob, to be used with `fullmatch` on a folded path.

    Raises:
        ValueError: the glob is malformed; the text says how.

    """
    return re.compile(_path_regex(glob), re.DOTALL)


def _any_of(wanted: frozenset[str]) -> Callable[[Collection[str]], bool]:
    return lambda values: not wanted.isdisjoint(values)


def _any_like(regex: re.Pattern[str]) -> Callable[[Collection[str]], bool]:
    fullmatch = regex.fullmatch
    return lambda values: any(map(fullmatch, values))


def _listing(values: Sequence[str], most: int = 8) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


# Deny rules must not be dodged by writing the same thing in another way: GitHub takes `/repos/ACME/x` and
# `/repos/%61cme/x` for `/repos/acme/x`, and an upstream may do the same for a model's or a host's case.
def _fold_path(path: str) -> str:
    folded = unquote(path).casefold()
    return folded[:-1] if folded.endswith("/") and folded != "/" else folded


def _plain_name(name: str) -> tuple[str, ...]:
    # Ids have a `#` or a `:`, and a name may be what somebody chose to be called: it must not pass for an id.
    return () if "#" in name or ":" in name else (name,)


def _seen(principal: Principal, facts: Facts) -> Seen:
    return {
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
        "paths": (_fold_path(facts.path),),
        "repositories": () if facts.repository is None else (facts.repository.casefold(),),
        **{f"claims.{name}": (value,) for name, value in principal.claims.items()},
    }


def _folded_regex(glob: str) -> str:
    return text_regex(glob.casefold())


def _repository_regex(glob: str) -> str:
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", glob) or "**" in glob:
        raise ValueError("expected OWNER/NAME, where * stands for any part of one of them")
    return text_regex(glob.casefold(), IN_SEGMENT)


def _path_regex(glob: str) -> str:
    regex = path_regex(glob.casefold())
    if re.search(r"[%?#\s]", glob):
        raise ValueError("expected a path without query, as it reads after decoding: no %, ?, # or space")
    return regex


_GLOBS: Mapping[str, Callable[[str], str]] = {
    "claims": text_regex,
    "models": _folded_regex,
    "hosts": _folded_regex,
    "paths": _path_regex,
    "repositories": _repository_regex,
}
