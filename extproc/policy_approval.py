"""The parts of the policy file about approvals: conditions on touches, the approval block, and their faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from extproc.approval.approval import ApprovalRule, Scope
from extproc.approval.protection import Effect, touch_condition
from extproc.approval.touch import Act
from extproc.yaml_file import Fault, as_written


def _glob(name: str) -> AfterValidator:
    def check(glob: str) -> str:
        touch_condition(name, [glob])
        return glob

    return AfterValidator(check)


def _flag(value: object) -> object:
    word = as_written(value)
    if word is value:
        raise ValueError("expected true or false")
    return word


Text = Annotated[str, Field(min_length=1)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Message = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Strict(BaseModel):
    """A mapping of the file that takes no keys but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TouchModel(Strict):
    """Conditions on what an exchange would do: any of them makes the rule a protection."""

    files: list[Annotated[Text, _glob("files")]] = Field(
        default_factory=list, min_length=1, description="Globs as in .gitignore, from the root of the workspace."
    )
    tools: list[Text] = Field(default_factory=list, min_length=1, description="Globs of tool names; without case.")
    acts: list[Act] = Field(default_factory=list, min_length=1, description="What would be done.")
    branches: list[Annotated[Text, _glob("branches")]] = Field(
        default_factory=list, min_length=1, description="Globs of branches, without refs/heads/; without case."
    )


TOUCHES: Final = tuple(TouchModel.model_fields)


class ApprovalModel(Strict):
    """Who is asked when the rule matches, for how long, and what an approval is good for."""

    approvers: list[Text] = Field(
        min_length=1, description="Group names, as under `groups` of the file or as the issuer sends them."
    )
    count: int = Field(default=1, strict=True, ge=1, le=10, description="So many of them must approve.")
    expires_minutes: int = Field(
        default=15, strict=True, ge=1, le=60, description="Nobody has decided in time: refused."
    )
    message: Message = Field(default_factory=str, description="Shown to the developer.")
    requester_may_approve: Flag = Field(default=False, description="Whether who asks may be one of the approvers.")
    scopes: list[Scope] = Field(
        default=[Scope.ONCE], min_length=1, description="What the approvers may choose between."
    )
    window_minutes: int = Field(
        default=60, strict=True, ge=1, le=1440, description="How long an approval of the scope window is good."
    )

    def has_useless_window(self) -> bool:
        """Say whether the length of a window is given that nobody can choose."""
        return "window_minutes" in self.model_fields_set and Scope.WINDOW not in self.scopes


def approval_rule(rule_id: str, model: ApprovalModel, approvers: Sequence[str]) -> ApprovalRule:
    """Return what the block says; `approvers` are the ids that stand for its names."""
    return ApprovalRule(
        rule_id,
        frozenset(approvers),
        count=model.count,
        expires_seconds=model.expires_minutes * 60.0,
        message=model.message,
        requester_may_approve=model.requester_may_approve,
        scopes=tuple(dict.fromkeys(model.scopes)),
        window_seconds=model.window_minutes * 60.0,
    )


def conflicts(entry: Mapping[Any, Any]) -> Iterator[Fault]:
    """Yield faults between the keys of a rule that is not checked yet; places start at the rule."""
    when = entry.get("when")
    is_protection = isinstance(when, dict) and not when.keys().isdisjoint(TOUCHES)
    if entry.get("effect") == Effect.REQUIRE_APPROVAL:
        if not is_protection:
            yield ("effect",), f"{Effect.REQUIRE_APPROVAL} is for touches: expected {', '.join(TOUCHES)} in `when`"
        if "approval" not in entry:
            yield ("effect",), f"{Effect.REQUIRE_APPROVAL} without `approval`: expected it, with its approvers"
        if "reason" in entry:
            yield ("reason",), "nothing is denied yet: what the developer is told stands in `approval` as `message`"
    elif "approval" in entry:
        yield ("approval",), f"only a rule with the effect {Effect.REQUIRE_APPROVAL} has a use for it"
    if is_protection and "credential" in entry and entry.get("effect") != Effect.DENY:
        yield ("credential",), "a rule about touches has no use for a credential"


def matches_everything(when: TouchModel, effect: Effect) -> bool:
    """Say whether no touch, whoever asks for it, can miss the conditions of a protection."""
    return all(name in _EVERYTHING and _EVERYTHING[name](getattr(when, name), effect) for name in when.model_fields_set)


_EVERYTHING: Final[Mapping[str, Callable[[list[str], Effect], bool]]] = {
    "acts": lambda acts, _: set(acts) == set(Act),
    "tools": lambda globs, _: "*" in globs,
    # What is allowed must be known.
    "branches": lambda globs, effect: "*" in globs and effect is not Effect.ALLOW,
    "repositories": lambda globs, effect: "*/*" in globs and effect is not Effect.ALLOW,
}
