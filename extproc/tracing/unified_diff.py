"""Read which lines a unified diff adds, and what stands around them. Pure.

Source: GNU diffutils manual, "Detailed Description of Unified Format", and git's diff-format for names in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from extproc.approval.patch import patched
from extproc.tracing.trace import Target

_HUNK: Final = re.compile(r"@@ -\d+(?:,(?P<old>\d+))? \+(?P<start>\d+)(?:,(?P<new>\d+))? @@")


def targets_of_diff(text: str) -> Iterator[Target]:
    """Yield for each file that a diff adds lines to the new side of its hunks, of which the added lines are wanted.

    Combined diffs, as git shows for merges, have no hunks of this format: nothing is found in them.
    """
    lines = text.split("\n")
    at, path = 0, ""
    target: Target | None = None
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("+++ ") and lines[at - 2].startswith("--- "):
            if target is not None and target.wanted:
                yield target
            path, target = _path(line), None
        elif found := _HUNK.match(line):
            target = target or Target(path, [], [], set())
            at = _read_hunk(lines, at, found, target)
    if target is not None and target.wanted:
        yield target


def _read_hunk(lines: list[str], at: int, found: re.Match[str], into: Target) -> int:
    """Add a hunk's new lines, and return where it ends; its header says how many lines it has."""
    number = int(found["start"])
    old, new = (1 if found[side] is None else int(found[side]) for side in ("old", "new"))
    while at < len(lines) and (old > 0 or new > 0):
        # Some mailers and `diff.suppressBlankEmpty` leave out the blank of an empty line.
        mark, line = lines[at][:1] or " ", lines[at][1:]
        if mark not in " -+\\":
            break
        at += 1
        old -= mark in " -"
        if mark in " +":
            into.numbers.append(number)
            into.lines.append(line)
            if mark == "+":
                into.wanted.add(number)
            number, new = number + 1, new - 1
    return at


def _path(header: str) -> str:
    names = patched(header.rstrip("\r")) or ["(deleted)"]
    # git writes `b/` before the name, unless it is told not to.
    return names[0].removeprefix("b/")
