"""What the policy says about what is found: which sets of rules look, what is done, and what may pass all the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from extproc.globs import path_regex, text_regex
from extproc.masking.finding import Action, Direction

SECRETS = "secrets"
PERSONAL_DATA = "personal-data"


@dataclass(frozen=True, slots=True)
class RuleSetPolicy:
    """A set of rules and what is done with what they find, each way; `file` is None for the sets that are built in."""

    name: str
    file: Path | None
    prompts: Action
    answers: Action

    def action(self, direction: Direction) -> Action:
        """Return what is done with a finding in this direction."""
        return self.prompts if direction is Direction.PROMPT else self.answers


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may pass although a rule finds it: all conditions that are given must hold.

    `rules` are globs of rule ids (none given: any rule), `regex` is searched in the secret, `paths` are globs of the
    files that the tool call around the secret touches. Raises ValueError without a regex and paths, and for a
    malformed glob.
    """

    rules: tuple[str, ...] = ()
    regex: re.Pattern[str] | None = None
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.regex is None and not self.paths:
            raise ValueError("expected a regex or paths: an allowance for everything is a rule that is off")
        for glob in self.paths:
            file_glob(glob)

    def covers(self, rule: str, secret: str, paths: Sequence[str]) -> bool:
        """Say whether a secret found by `rule` may pass; `paths` are all files the tool call touches, if it is one."""
        return (
            (not self.rules or any(_rule_glob(glob).fullmatch(rule) for glob in self.rules))
            and (not self.paths or (bool(paths) and all(map(self._lists, paths))))
            and (self.regex is None or self.regex.search(secret) is not None)
        )

    def _lists(self, path: str) -> bool:
        segments = [one for one in path.replace("\\", "/").split("/") if one not in {"", "."}]
        # Where `..` leads depends on links that only the client sees.
        if ".." in segments:
            return False
        plain = "/" + "/".join(segments)
        return any(file_glob(glob).fullmatch(plain) for glob in self.paths)


_BUILT_IN = (
    RuleSetPolicy(SECRETS, None, prompts=Action.MASK, answers=Action.MASK),
    RuleSetPolicy(PERSONAL_DATA, None, prompts=Action.OFF, answers=Action.OFF),
)


@dataclass(frozen=True, slots=True)
class MaskingPolicy:
    """The masking section of a policy; without one secrets are masked both ways."""

    sets: tuple[RuleSetPolicy, ...] = _BUILT_IN
    allow: tuple[Allowance, ...] = ()

    def action(self, set_name: str, direction: Direction) -> Action:
        """Return what is done with what a set of rules finds; raises KeyError for a set that is not in the policy."""
        for one in self.sets:
            if one.name == set_name:
                return one.action(direction)
        raise KeyError(set_name)

    def in_use(self) -> list[RuleSetPolicy]:
        """Return the sets that look at anything."""
        return [one for one in self.sets if {one.prompts, one.answers} != {Action.OFF}]

    def allows(self, rule: str, secret: str, paths: Sequence[str] = ()) -> bool:
        """Say whether any allowance covers the secret."""
        return any(one.covers(rule, secret, paths) for one in self.allow)


@lru_cache(maxsize=256)
def _rule_glob(glob: str) -> re.Pattern[str]:
    return re.compile(text_regex(glob), re.DOTALL)


# The gateway does not know where a workspace begins, and clients name files as they like: what does not begin with a
# slash may stand at any depth.
@lru_cache(maxsize=256)
def file_glob(glob: str) -> re.Pattern[str]:
    """Compile a glob of files: `*` in one segment, `**` for any segments, at any depth unless it begins with a slash.

    A slash at the end means everything below. It is matched with case, against a path with slashes that begins with
    one. Raises ValueError where the glob is malformed; the text says how.
    """
    if "\\" in glob or glob.startswith("!"):
        raise ValueError("expected a path with / between folders, and no ! before it")
    if re.search(r"(^|/)(\.{1,2}(/|\Z)|/)", glob.removeprefix("/")) or glob.startswith("//"):
        raise ValueError("expected a path without empty segments, . and ..")
    anchored = glob if glob.startswith("/") else f"/**/{glob}"
    return re.compile(path_regex(f"{anchored}**" if glob.endswith("/") else anchored), re.DOTALL)
