"""Read the policy file: YAML to a checked `Policy`, and every fault of the file with its line and what was expected."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from extproc.approval.protection import Protection, protection, touch_condition
from extproc.conditions import Condition, condition
from extproc.endpoint import EndpointKind
from extproc.errors import ConfigError
from extproc.policy import Effect, Policy, Rule, rule
from extproc.policy_approval import TOUCHES, ApprovalModel, approval_rule, matches_everything
from extproc.policy_approval import conflicts as approval_conflicts
from extproc.policy_endpoints import conflicts as endpoint_conflicts
from extproc.policy_endpoints import doubts as endpoint_doubts
from extproc.policy_endpoints import opens_tunnels
from extproc.policy_masking import (
    AllowanceModel,
    MaskingModel,
    PersonalDataModel,
    RuleFileModel,
    SecretsModel,
    masking_policy,
)
from extproc.policy_masking import faults as masking_faults
from extproc.policy_model import PolicyModel, RuleModel, When, passthrough
from extproc.yaml_file import Fault, Kind, Loc, YamlFile


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file, for editors; `docs/policy.schema.json` is a copy."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PolicyModel.model_json_schema()}


# --- Reading ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> Policy:
    """Read and check the policy file at `path`.

    Raises:
        ConfigError: the file cannot be read or has faults; the text has one line for each, with its place in the file.

    """
    file, model = _checked(path)
    default = model.credential or None
    return Policy(
        rules=tuple(_rule(entry, model) for entry in model.rules if not entry.is_protection()),
        metadata=tuple(passthrough(entry) for entry in model.metadata),
        credential=default,
        digest=hashlib.sha256(file.raw).hexdigest(),
        masking=masking_policy(model.masking, path.parent),
        protections=tuple(_protection(entry, model) for entry in model.rules if entry.is_protection()),
        telemetry=model.telemetry,
        refusals=model.refusals,
        groups={name: tuple(ids) for name, ids in model.groups.items()},
    )


def warnings(path: Path) -> list[str]:
    """Return what the policy file at `path` says but probably does not mean, one line each; raise as `load` does."""
    file, model = _checked(path)
    return file.tell(_doubts(model))


def _checked(path: Path) -> tuple[YamlFile, PolicyModel]:
    file = YamlFile(path, _KIND)
    model = file.checked(PolicyModel)
    if told := file.tell((("masking", *loc), text) for loc, text in masking_faults(model.masking, path.parent)):
        raise ConfigError("\n".join(told))
    return file, model


def _rule(entry: RuleModel, model: PolicyModel) -> Rule:
    credential = None if opens_tunnels(entry) else entry.credential or model.credential or None
    return rule(entry.id, entry.effect, _conditions(entry.when, model), reason=entry.reason, credential=credential)


def _protection(entry: RuleModel, model: PolicyModel) -> Protection:
    about_touches = (*TOUCHES, "repositories")
    asked = entry.approval
    return protection(
        entry.id,
        entry.effect,
        [one for one in _conditions(entry.when, model) if one.name != "repositories"],
        [touch_condition(name, wanted) for name in about_touches if (wanted := getattr(entry.when, name))],
        reason=entry.reason,
        approval=None if asked is None else approval_rule(entry.id, asked, model.ids(asked.approvers)),
    )


def _conditions(when: When, model: PolicyModel) -> list[Condition]:
    conditions = [condition(f"claims.{claim}", globs) for claim, globs in when.claims.items()]
    for name, wanted in when:
        if name == "groups" and wanted:
            conditions.append(condition(name, wanted, model.ids(wanted)))
        elif name != "claims" and name not in TOUCHES and wanted:
            conditions.append(condition(name, wanted))
    return conditions


# --- What is wrong between fields, or only odd -----------------------------------------------------------------------


def _unknown_key(loc: Loc) -> str:
    holder = _HOLDERS[tuple("*" if isinstance(step, int) else step for step in loc[:-1])]
    known = [field.alias or name for name, field in holder.model_fields.items()]
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known are {', '.join(known)}"


# What holds the keys at a place of the file, where `*` is any item of a list.
_HOLDERS: Mapping[Loc, type[BaseModel]] = {
    (): PolicyModel,
    ("rules", "*"): RuleModel,
    ("rules", "*", "when"): When,
    ("rules", "*", "approval"): ApprovalModel,
    ("masking",): MaskingModel,
    ("masking", "secrets"): SecretsModel,
    ("masking", "personal-data"): PersonalDataModel,
    ("masking", "rule-files", "*"): RuleFileModel,
    ("masking", "allow", "*"): AllowanceModel,
}


def _conflicts(data: object) -> Iterator[Fault]:
    """Yield faults that lie between fields; `data` is not checked yet, so that all faults are told at once."""
    rules = data.get("rules") if isinstance(data, dict) else None
    first: dict[str, int] = {}
    for index, entry in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(entry, dict):
            continue
        rule_id = entry.get("id")
        if isinstance(rule_id, str) and first.setdefault(rule_id, index) != index:
            yield ("rules", index, "id"), f"the id is already that of rules[{first[rule_id]}]; expected a unique one"
        if entry.get("effect") == Effect.DENY and "credential" in entry:
            yield ("rules", index, "credential"), "a deny rule has no use for a credential"
        for conflicts in (approval_conflicts, endpoint_conflicts):
            yield from ((("rules", index, *loc), text) for loc, text in conflicts(entry))


_KIND = Kind(
    conflicts=_conflicts, unknown_key=_unknown_key, empty='the file is empty; expected "version: 1" and "rules:"'
)

_DECIDED_BY_RULES = set(EndpointKind) - {EndpointKind.TELEMETRY}

# The endpoints whose every request has the fact. A kind of endpoint not named here is taken not to have it: completions
# name their model in the path or in the body, and some in neither.
_HAVING = {
    "models": {EndpointKind.CHAT, EndpointKind.RESPONSES, EndpointKind.MESSAGES},
    "repositories": set[EndpointKind](),
}

# Methods without a body worth recording (RFC 9110 section 9.2.1, "safe").
_SAFE = {"GET", "HEAD", "OPTIONS"}


def _doubts(model: PolicyModel) -> Iterator[Fault]:
    entries = list(enumerate(model.rules))
    rules = [(index, entry) for index, entry in entries if not entry.is_protection()]
    protections = [(index, entry) for index, entry in entries if entry.is_protection()]
    yield from _unreached(rules, lambda entry: not entry.when.model_fields_set, "every request")
    yield from _unreached(protections, lambda entry: matches_everything(entry.when, entry.effect), "everything")
    yield from endpoint_doubts(rules)
    for index, entry in rules:
        is_without = entry.effect is Effect.ALLOW and not (entry.credential or model.credential)
        if is_without and not opens_tunnels(entry):
            yield ("rules", index), "allows without an upstream credential: neither the rule nor the file names one"
    for index, entry in entries:
        if entry.effect is not Effect.ALLOW:
            yield from ((("rules", index, "when", name), text) for name, text in _holes(entry))
        if entry.approval is not None and entry.approval.has_useless_window():
            yield ("rules", index, "approval", "window_minutes"), "of no use: scopes do not offer window"
    used = {name for entry in model.rules for name in _groups_of(entry)}
    yield from ((("groups", name), "no rule uses this name") for name in model.groups if name not in used)
    for index, text in enumerate(model.metadata):
        if (method := passthrough(text).method) not in _SAFE:
            yield ("metadata", index), f"the body of a {method} is passed on without being understood or recorded"


def _unreached(
    entries: Sequence[tuple[int, RuleModel]], is_open: Callable[[RuleModel], bool], what: str
) -> Iterator[Fault]:
    openers = (place for place, (_, entry) in enumerate(entries) if is_open(entry))
    if (first := next(openers, None)) is not None:
        opener = entries[first][1]
        for index, entry in entries[first + 1 :]:
            # What allows every request does not open tunnels.
            if opener.effect is Effect.ALLOW and EndpointKind.TUNNEL in entry.when.endpoints:
                continue
            yield ("rules", index), f'never reached: the rule "{opener.id}" before it matches {what}'


def _groups_of(entry: RuleModel) -> list[str]:
    return [*entry.when.groups, *(entry.approval.approvers if entry.approval is not None else ())]


def _holes(entry: RuleModel) -> Iterator[tuple[str, str]]:
    when = entry.when
    for name, having in _HAVING.items():
        # A protection matches where the repository is not known.
        if name == "repositories" and entry.is_protection():
            continue
        lacking = sorted(set(when.endpoints or _DECIDED_BY_RULES) - having)
        if getattr(when, name) and lacking:
            yield name, f"a request of {' or '.join(lacking)} may have none, and then this rule does not apply to it"
