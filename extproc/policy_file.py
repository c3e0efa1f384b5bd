"""Read the policy file: YAML to a checked `Policy`, and every fault of the file with its line and what was expected."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import ConfigError
from extproc.policy import DEFAULT_RULE, Condition, Effect, Passthrough, Policy, condition, path_glob, rule
from extproc.policy_masking import AllowanceModel, MaskingModel, RuleFileModel, SecretsModel, masking_policy
from extproc.policy_masking import faults as masking_faults
from extproc.yaml_file import Fault, Kind, Loc, YamlFile

# --- The shape of the file -------------------------------------------------------------------------------------------


def _glob(name: str) -> AfterValidator:
    def check(glob: str) -> str:
        condition(name, [glob])
        return glob

    return AfterValidator(check)


def _not_default(rule_id: str) -> str:
    if rule_id == DEFAULT_RULE:
        raise ValueError(f'"{DEFAULT_RULE}" names the denial when no rule matches; expected another id')
    return rule_id


_METADATA = re.compile(rf"(?:(?P<upstream>{'|'.join(Upstream)}): *)?(?P<method>[A-Z]+) +(?P<path>/\S*)")


# YAML reads `- github-api: GET /repos/**` as a mapping of one key; it means the same as in quotes.
def _joined(entry: object) -> object:
    if isinstance(entry, dict) and len(entry) == 1:
        ((upstream, rest),) = entry.items()
        return f"{upstream}: {rest}" if isinstance(rest, str) else entry
    return entry


def _passthrough(entry: str) -> Passthrough:
    parts = _METADATA.fullmatch(entry)
    if parts is None:
        names = ", ".join(Upstream)
        raise ValueError(f'expected "METHOD /path" or "UPSTREAM: METHOD /path", where UPSTREAM is one of {names}')
    upstream = parts["upstream"]
    return Passthrough(parts["method"], Upstream(upstream) if upstream else None, path_glob(parts["path"]))


def _metadata_entry(entry: str) -> str:
    _passthrough(entry)
    return entry


_METADATA_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": f"^{_METADATA.pattern.replace('?P<', '?<')}$"},
        {
            "type": "object",
            "properties": {name.value: {"type": "string", "pattern": r"^[A-Z]+ +/\S*$"} for name in Upstream},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    ]
}

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Method = Annotated[str, Field(pattern="^[A-Z]+$")]
RuleId = Annotated[str, Field(pattern="^[a-z0-9-]+$", max_length=64), AfterValidator(_not_default)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
ClaimGlobs = Annotated[list[Annotated[Text, _glob("claims")]], Field(min_length=1)]
Metadata = Annotated[str, BeforeValidator(_joined), AfterValidator(_metadata_entry), WithJsonSchema(_METADATA_SCHEMA)]


def _some(description: str) -> Any:  # noqa: ANN401 - pydantic's Field() is Any too
    """Describe a list that may be left out but not be empty: an empty one would match nothing, against all hope."""
    return Field(default_factory=list, min_length=1, description=description)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Model):
    """Conditions: all keys given must hold, each by any of its values. A fact that a request lacks holds none."""

    groups: list[Text] = _some("Group names, as under `groups` of the file or as the issuer sends them.")
    roles: list[Text] = _some("Roles of the token: the app roles of Microsoft Entra ID.")
    users: list[Text] = _some("Names or ids of principals; a name may exist at several issuers, an id does not.")
    claims: dict[Text, ClaimGlobs] = Field(
        default_factory=dict, min_length=1, description="Claims that must all match, each one of its globs; with case."
    )
    kinds: list[Literal["person", "workload"]] = _some("A person, or a workload such as a CI job.")
    issuers: list[Text] = _some("OIDC issuers, exactly as in the `iss` claim.")
    endpoints: list[EndpointKind] = _some("Kinds of endpoint.")
    models: list[Annotated[Text, _glob("models")]] = _some("Globs of model names; without case.")
    upstreams: list[Upstream] = _some("Where the request goes.")
    hosts: list[Annotated[Text, _glob("hosts")]] = _some("Globs of the host that the client asked for.")
    methods: list[Method] = _some("HTTP methods, in capitals.")
    paths: list[Annotated[Text, _glob("paths")]] = _some("`*` in one segment, `**` for any segments; without case.")
    repositories: list[Annotated[Text, _glob("repositories")]] = _some("`OWNER/NAME`, `*` in either; without case.")


class RuleModel(_Model):
    """One rule; the first whose conditions all hold decides."""

    id: RuleId = Field(description="Unique name; clients, records and metrics show it.")
    when: When = Field(default_factory=When, description="Left out, the rule matches every request.")
    effect: Effect
    credential: Text = Field(default_factory=str, description="Upstream credential, for an allow rule.")
    reason: Reason = Field(default_factory=str, description="Shown to the developer when the rule denies.")


class PolicyModel(_Model):
    """Who may do what through the gateway, with which credential. What no rule allows is denied."""

    version: Literal[1]
    credential: Text = Field(default_factory=str, description="Upstream credential of allow rules that name none.")
    groups: dict[Text, Texts] = Field(
        default_factory=dict, description="Readable names for the issuer's group ids; a name not here means itself."
    )
    metadata: list[Metadata] = _some('Requests passed on without a look at their body: "METHOD /path-glob".')
    masking: MaskingModel = Field(default_factory=MaskingModel)
    rules: list[RuleModel] = Field(description="In order: the first that matches decides.")


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
        rules=tuple(
            rule(r.id, r.effect, _conditions(r.when, model), reason=r.reason, credential=r.credential or default)
            for r in model.rules
        ),
        metadata=tuple(_passthrough(entry) for entry in model.metadata),
        credential=default,
        digest=hashlib.sha256(file.raw).hexdigest(),
        masking=masking_policy(model.masking, path.parent),
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


def _conditions(when: When, model: PolicyModel) -> list[Condition]:
    conditions = [condition(f"claims.{claim}", globs) for claim, globs in when.claims.items()]
    for name, wanted in when:
        if name == "groups" and wanted:
            ids = [group_id for group in wanted for group_id in model.groups.get(group, [group])]
            conditions.append(condition(name, wanted, ids))
        elif name != "claims" and wanted:
            conditions.append(condition(name, wanted))
    return conditions


# --- What is wrong between fields, or only odd -----------------------------------------------------------------------


def _unknown_key(loc: Loc) -> str:
    known = [field.alias or name for name, field in _holder(loc[:-1]).model_fields.items()]
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known are {', '.join(known)}"


def _holder(loc: Loc) -> type[BaseModel]:
    """Return the model of the mapping at `loc`."""
    match loc:
        case ():
            return PolicyModel
        case ("rules", _, *rest):
            return When if rest else RuleModel
        case ("masking", "rule-files", _):
            return RuleFileModel
        case ("masking", "allow", _):
            return AllowanceModel
        case ("masking",):
            return MaskingModel
        case _:
            return SecretsModel


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


_KIND = Kind(
    conflicts=_conflicts, unknown_key=_unknown_key, empty='the file is empty; expected "version: 1" and "rules:"'
)

# The endpoints whose every request has the fact. A kind of endpoint not named here is taken not to have it: completions
# name their model in the path or in the body, and some in neither.
_HAVING = {
    "models": {EndpointKind.CHAT, EndpointKind.RESPONSES, EndpointKind.MESSAGES},
    "repositories": set[EndpointKind](),
}

# Methods without a body worth recording (RFC 9110 section 9.2.1, "safe").
_SAFE = {"GET", "HEAD", "OPTIONS"}


def _doubts(model: PolicyModel) -> Iterator[Fault]:
    open_to_all: str | None = None
    for index, entry in enumerate(model.rules):
        loc = ("rules", index)
        if open_to_all is not None:
            yield loc, f'never reached: the rule "{open_to_all}" before it matches every request'
        elif not entry.when.model_fields_set:
            open_to_all = entry.id
        if entry.effect is Effect.ALLOW and not (entry.credential or model.credential):
            yield loc, "allows without an upstream credential: neither the rule nor the file names one"
        if entry.effect is Effect.DENY:
            yield from (((*loc, "when", name), text) for name, text in _holes(entry.when))
    used = {name for entry in model.rules for name in entry.when.groups}
    yield from ((("groups", name), "no rule uses this name") for name in model.groups if name not in used)
    for index, text in enumerate(model.metadata):
        if (method := _passthrough(text).method) not in _SAFE:
            yield ("metadata", index), f"the body of a {method} is passed on without being understood or recorded"


def _holes(when: When) -> Iterator[tuple[str, str]]:
    for name, having in _HAVING.items():
        lacking = sorted(set(when.endpoints or EndpointKind) - having)
        if getattr(when, name) and lacking:
            yield name, f"a request of {' or '.join(lacking)} may have none, and then this denial does not apply to it"
