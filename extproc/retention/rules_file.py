"""Read the file of the retention rules: YAML to checked `Rules`, and every fault of it with its line."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from extproc.conditions import condition
from extproc.recording.document import Outcome
from extproc.retention.plan import Keep, Rule, Rules, rule
from extproc.yaml_file import Fault, Kind, Loc, YamlFile

DEFAULT_RULE = "default"
"""What plans and prune records call the default."""

MAX_DAYS = 36_500


def _repository(glob: str) -> str:
    condition("repositories", [glob])
    return glob


def _not_default(rule_id: str) -> str:
    if rule_id == DEFAULT_RULE:
        raise ValueError(f'"{DEFAULT_RULE}" names what no rule matches; expected another id')
    return rule_id


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
RuleId = Annotated[str, Field(pattern="^[a-z0-9-]+$", max_length=64), AfterValidator(_not_default)]
# Less than a day would race with exchanges that run, and with sessions that pause.
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _some(description: str) -> Any:  # noqa: ANN401 - pydantic's Field() is Any too
    """Describe a list that may be left out but not be empty."""
    return Field(default_factory=list, min_length=1, description=description)


class MatchModel(_Strict):
    """Which exchanges a rule is about: all keys given must hold, each by any of its values."""

    groups: list[Text] = _some("Group names, as under `groups` of the file or as the issuer sends them.")
    repositories: list[Annotated[Text, AfterValidator(_repository)]] = _some("`OWNER/NAME`, `*` in either.")
    outcomes: list[Annotated[Outcome, Field(strict=False)]] = _some("How exchanges ended.")


class KeepModel(_Strict):
    """How long exchanges are kept, in days after they were opened."""

    bodies_days: Days = Field(description="Prompts and answers.")
    heads_days: Days = Field(description="Who, when, what was decided; at least as long as bodies.")


class RuleModel(KeepModel):
    """One rule; the first that matches decides how long an exchange is kept."""

    id: RuleId = Field(description="Unique name; plans and prune records show it.")
    match: MatchModel


class RetentionModel(_Strict):
    """How long what was recorded is kept."""

    version: Literal[1]
    groups: dict[Text, Texts] = Field(default_factory=dict, description="Readable names for the issuer's group ids.")
    rules: list[RuleModel] = Field(default_factory=list, description="In order: the first that matches decides.")
    default: KeepModel = Field(description="For what no rule matches.")


def load(path: Path) -> Rules:
    """Read and check the file at `path`.

    Raises:
        ConfigError: the file cannot be read or has faults; the text has one line for each, with its place in the file.

    """
    file = YamlFile(path, _KIND)
    model = file.checked(RetentionModel)
    default = Keep(DEFAULT_RULE, model.default.bodies_days, model.default.heads_days)
    return Rules(tuple(_rule(one, model.groups) for one in model.rules), default, hashlib.sha256(file.raw).hexdigest())


def _rule(entry: RuleModel, names: Mapping[str, list[str]]) -> Rule:
    wanted = {name: list(values) for name, values in entry.match if values}
    groups = [group for name in entry.match.groups for group in names.get(name, [name])]
    return rule(Keep(entry.id, entry.bodies_days, entry.heads_days), wanted, groups)


def _unknown_key(loc: Loc) -> str:
    holder = _HOLDERS[tuple("*" if isinstance(step, int) else step for step in loc[:-1])]
    near = difflib.get_close_matches(str(loc[-1]), holder.model_fields, n=1)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    return f"unknown key; known are {', '.join(holder.model_fields)}"


# What holds the keys at a place of the file, where `*` is any item of a list.
_HOLDERS: Mapping[Loc, type[BaseModel]] = {
    (): RetentionModel,
    ("default",): KeepModel,
    ("rules", "*"): RuleModel,
    ("rules", "*", "match"): MatchModel,
}


def _conflicts(data: object) -> Iterator[Fault]:
    """Yield faults that lie between fields; `data` is not checked yet, so that all faults are told at once."""
    if not isinstance(data, dict):
        return
    yield from _shorter(("default",), data.get("default"))
    rules = data.get("rules")
    first: dict[str, int] = {}
    for index, entry in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(entry, dict):
            continue
        rule_id = entry.get("id")
        if isinstance(rule_id, str) and first.setdefault(rule_id, index) != index:
            yield ("rules", index, "id"), f"the id is already that of rules[{first[rule_id]}]; expected a unique one"
        if entry.get("match") == {}:
            yield ("rules", index, "match"), "it would match everything; that is what `default` is for"
        yield from _shorter(("rules", index), entry)


def _shorter(loc: Loc, entry: object) -> Iterator[Fault]:
    match entry:
        # Without its head nobody could say what a body is.
        case {"bodies_days": int(bodies), "heads_days": int(heads)} if heads < bodies:
            yield (*loc, "heads_days"), f"heads are kept at least as long as bodies; expected {bodies} or more"


_KIND = Kind(
    conflicts=_conflicts,
    unknown_key=_unknown_key,
    empty='the file is empty; expected "version: 1" and "default:"',
)
