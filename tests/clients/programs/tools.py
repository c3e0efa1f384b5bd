"""Two tools that edit files, under the names and parameters of Copilot CLI's."""

# ruff: noqa: T201 - a client shows what it is told
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TURNS = 5
"""Answers after which an agent stops asking."""

_TEXT = {"type": "string"}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "create": {"type": "object", "properties": {"path": _TEXT, "file_text": _TEXT}, "required": ["path", "file_text"]},
    "edit": {
        "type": "object",
        "properties": {"path": _TEXT, "old_str": _TEXT, "new_str": _TEXT},
        "required": ["path", "old_str", "new_str"],
    },
}
DESCRIPTIONS = {"create": "Write a new file.", "edit": "Replace a text of a file."}


def run(name: str, arguments: str) -> str:
    """Do what the model asks (arguments: a JSON object); return what it is told."""
    said = json.loads(arguments)
    path = Path(said["path"])
    print(f"[{name} {path}]", flush=True)
    match name:
        case "create":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(said["file_text"])
        case "edit":
            text = path.read_text()
            assert text.count(said["old_str"]) == 1, f"{path}: the text to replace is not there once"
            path.write_text(text.replace(said["old_str"], said["new_str"]))
        case _:
            return f"there is no tool {name}"
    return f"{name} done: {path}"
