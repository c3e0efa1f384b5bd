"""The shape of the policy file: its sections, rules and conditions, each key with what it may hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from extproc.conditions import condition, path_glob
from extproc.endpoint import EndpointKind, Upstream
from extproc.policy import DEFAULT_RULE, Effect, Passthrough
from extproc.policy_approval import TOUCHES, ApprovalModel, Strict, TouchModel
from extproc.policy_masking import MaskingModel


def _glob(name: str) -> AfterValidator:
    def check(glob: str) -> str:
        condition(name, [glob])
        return glob

    return AfterValidator(check)


def _not_default(rule_id: str) -> str:
    if rule_id == DEFAULT_RULE:
        raise ValueError(f'"{DEFAULT_RULE}" names the denial when no rule matches; expected another id')
    return rule_id


# What goes to the telemetry hosts is for the key `telemetry`, and what goes through a tunnel has no paths.
_METADATA_UPSTREAMS = [name for name in Upstream if name not in {Upstream.TELEMETRY, Upstream.TUNNEL}]
_METADATA = re.compile(rf"(?:(?P<upstream>{'|'.join(_METADATA_UPSTREAMS)}): *)?(?P<method>[A-Z]+) +(?P<path>/\S*)")


# YAML reads `- github-api: GET /repos/**` as a mapping of one key; it means the same as in quotes.
def _joined(entry: object) -> object:
    if isinstance(entry, dict) and len(entry) == 1:
        ((upstream, rest),) = entry.items()
        return f"{upstream}: {rest}" if isinstance(rest, str) else entry
    return entry


def passthrough(entry: str) -> Passthrough:
    """Read an entry of `metadata`; raises ValueError where it is none."""
    parts = _METADATA.fullmatch(entry)
    if parts is None and entry.startswith(f"{Upstream.TELEMETRY}:"):
        raise ValueError("the key `telemetry` of the file decides about all that goes there: expected another upstream")
    if parts is None:
        names = ", ".join(_METADATA_UPSTREAMS)
        raise ValueError(f'expected "METHOD /path" or "UPSTREAM: METHOD /path", where UPSTREAM is one of {names}')
    upstream = parts["upstream"]
    return Passthrough(parts["method"], Upstream(upstream) if upstream else None, path_glob(parts["path"]))


def _metadata_entry(entry: str) -> str:
    passthrough(entry)
    return entry


_METADATA_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": f"^{_METADATA.pattern.replace('?P<', '?<')}$"},
        {
            "type": "object",
            "properties": {
                name.value: {"type": "string", "pattern": r"^[A-Z]+ +/\S*$"} for name in _METADATA_UPSTREAMS
            },
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


# The key may be left out; a key without a value is a fault.
def _never_null(schema: dict[str, Any]) -> None:
    (schema["$ref"],) = (one["$ref"] for one in schema.pop("anyOf") if "$ref" in one)
    del schema["default"]


class When(TouchModel):
    """Conditions: all keys given must hold, each by any of its values. A fact that a request lacks holds none.

    With files, tools, acts or branches the rule is a protection: about what would be done, not about requests.
    """

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


class RuleModel(Strict):
    """One rule; the first whose conditions all hold decides, about requests or, for protections, about touches."""

    id: RuleId = Field(description="Unique name; clients, records and metrics show it.")
    when: When = Field(default_factory=When, description="Left out, the rule matches every request.")
    effect: Effect
    credential: Text = Field(default_factory=str, description="Upstream credential, for an allow rule.")
    reason: Reason = Field(default_factory=str, description="Shown to the developer when the rule denies.")
    approval: ApprovalModel | None = Field(
        default=None, description="Who is asked, for the effect require-approval.", json_schema_extra=_never_null
    )

    def is_protection(self) -> bool:
        """Say whether the rule is about touches."""
        return not self.when.model_fields_set.isdisjoint(TOUCHES)


class PolicyModel(Strict):
    """Who may do what through the gateway, with which credential. What no rule allows is denied."""

    version: Literal[1]
    credential: Text = Field(default_factory=str, description="Upstream credential of allow rules that name none.")
    groups: dict[Text, Texts] = Field(
        default_factory=dict, description="Readable names for the issuer's group ids; a name not here means itself."
    )
    metadata: list[Metadata] = _some('Requests passed on without a look at their body: "METHOD /path-glob".')
    telemetry: Literal["block", "pass"] = Field(
        default="block",
        description="What happens to what clients tell about themselves, which they do without identity.",
    )
    refusals: Literal["error", "answer"] = Field(
        default="error",
        description="How the refusal of a prompt looks: an HTTP error, or an answer of the model whose text says it.",
    )
    masking: MaskingModel = Field(default_factory=MaskingModel)
    rules: list[RuleModel] = Field(description="In order: the first that matches decides.")

    def ids(self, groups: Sequence[str]) -> list[str]:
        """Return the issuer's ids of groups, which may be names of this file."""
        return [group_id for group in groups for group_id in self.groups.get(group, [group])]
