"""Show a proposed change to people: edits as unified diffs, all else as JSON. Nothing of a call is left out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any, Final

# How the edit tools of Copilot clients name their arguments (docs/approvals.md lists the tools).
_PATHS: Final = ("path", "filePath", "file_path")
_OLD: Final = ("old_str", "oldString", "old_string")
_NEW: Final = ("new_str", "newString", "new_string")
_WHOLE: Final = ("file_text", "content")
_PATCHES: Final = ("input", "patch", "patchText")

# Comparing is quadratic in the worst case, and the texts are a model's; longer ones are shown as all out, all in.
_MAX_COMPARED_LINES: Final = 2000


def text_of(proposal: str) -> str:
    """Return what a `Request.proposal` says, as text of several lines; control characters are still in it.

    The proposal is JSON: a call `{"name", "arguments"}`, whose arguments are an object or the text of one, or a list of
    calls. Other JSON is indented, other text is shown as it is.
    """
    try:
        value = _decoded(proposal)
    except (ValueError, RecursionError):
        return proposal
    return "\n\n".join("\n".join(_one(item)) for item in (value if isinstance(value, list) else [value]))


def _one(item: Any) -> Iterator[str]:  # noqa: ANN401 - decoded JSON
    match item:
        case {"name": str() as name, "arguments": str() | dict() as arguments, **others}:
            yield f"{_line(name)}:"
            yield from _arguments(arguments)
            yield from _rest(others)
        case _:
            yield _indented(item)


def _arguments(arguments: str | dict[str, Any]) -> Iterator[str]:
    if isinstance(arguments, str):
        try:
            value = _decoded(arguments)
        except (ValueError, RecursionError):
            # A patch for a custom tool, or JSON that two readers could understand differently.
            yield arguments
            return
    else:
        value = arguments
    if isinstance(value, dict):
        yield from _members(value)
    else:
        yield _indented(value)


def _members(members: dict[str, Any]) -> Iterator[str]:
    """Yield an edit as a diff, and below it the members that are no part of that."""
    rest = dict(members)
    patch = _take(rest, _PATCHES)
    if patch is not None and "*** Begin Patch" in patch:
        yield patch
    elif isinstance(edits := members.get("replacements"), list) and all(isinstance(one, dict) for one in edits):
        rest = {name: value for name, value in members.items() if name != "replacements"}
        for one in edits:
            yield from _members(one)
    else:
        rest = dict(members)
        yield from _edit(rest)
    yield from _rest(rest)


def _edit(rest: dict[str, Any]) -> list[str]:
    """Take the members of an edit out of `rest` and return its diff; nothing where it is none."""
    given = dict(rest)
    path, old, new = _take(given, _PATHS), _take(given, _OLD), _take(given, _NEW)
    before = None if old is None else old.split("\n")
    if path is not None and before is not None and new is not None:
        lines = _diff(path, before, new.split("\n"), "a/")
    elif path is not None and old is None and new is not None and type(line := given.get("insert_line")) is int:
        del given["insert_line"]
        added = new.split("\n")
        lines = [*_heads(path, "a/"), f"@@ -{line},0 +{line + 1},{len(added)} @@", *(f"+{one}" for one in added)]
    elif path is not None and old is None and new is None and (whole := _take(given, _WHOLE)) is not None:
        lines = _diff(path, [], whole.split("\n"), "")
    else:
        return []
    rest.clear()
    rest.update(given)
    return lines


def _diff(path: str, before: list[str], after: list[str], prefix: str) -> list[str]:
    # Not splitlines: a carriage return or a line separator is a change too.
    if before == after:
        return [*_heads(path, prefix), "(no change)"]
    if len(before) + len(after) > _MAX_COMPARED_LINES:
        counts = f"@@ -1,{len(before)} +1,{len(after)} @@"
        return [*_heads(path, prefix), counts, *(f"-{one}" for one in before), *(f"+{one}" for one in after)]
    _, _, *lines = unified_diff(before, after, lineterm="")
    return [*_heads(path, prefix), *lines]


def _heads(path: str, prefix: str) -> list[str]:
    return [f"--- {prefix}{_line(path)}" if prefix else "--- /dev/null", f"+++ b/{_line(path)}"]


def _rest(others: Mapping[Any, Any]) -> Iterator[str]:
    if others:
        yield _indented(others)


def _take(members: dict[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if isinstance(members.get(name), str):
            text: str = members.pop(name)
            return text
    return None


def _line(text: str) -> str:
    """Return a text that must stay on one line; a path with a line break could otherwise write lines of a diff."""
    return json.dumps(text, ensure_ascii=False)[1:-1] if any(char < " " for char in text) else text


def _indented(value: Any) -> str:  # noqa: ANN401 - decoded JSON
    return json.dumps(value, indent=2, ensure_ascii=False)


def _decoded(text: str) -> Any:  # noqa: ANN401 - decoded JSON
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member that is written twice: which of them the client takes is not known."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is written twice")
    return members
