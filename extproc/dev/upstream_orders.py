"""Orders to write files, read from a prompt and turned into calls of the tools that a client offers. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from extproc.conversation import ToolCall

_CREATE_TOOLS = ("create", "create_file", "write", "apply_patch")
_EDIT_TOOLS = ("edit", "replace_string_in_file", "str_replace", "insert_edit_into_file", "apply_patch")
_FILE_ORDER = re.compile(
    r"\b(create|edit)\s+(?:(?:a|the)\s+)?(?:file\s+)?[`'\"]?([\w./~-]*[./][\w./~-]*\w)", re.IGNORECASE
)
# opencode puts a prompt of its command line into quotation marks, with a backslash before those in it.
_CONTAINING = re.compile(r"\bcontaining\s+\\?([`'\"])(.*?)\\?\1", re.IGNORECASE | re.DOTALL)
_REPLACING = re.compile(
    r"\breplacing\s+\\?([`'\"])(.*?)\\?\1\s+with\s+\\?([`'\"])(.*?)\\?\3", re.IGNORECASE | re.DOTALL
)
# How Copilot CLI and opencode state it in their system prompt, and Copilot's language server in the prompt.
_WORKING_DIRECTORY = re.compile(
    r"\b(?:working directory: *|workspace with the following folders:\s+- )(/[^\n<]*)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Order:
    """Write `file`: create it with `text`, or edit it, `text` taking the place of `old`; None is what is not said."""

    verb: str
    file: str
    text: str | None = None
    old: str | None = None


def find_order(question: str) -> Order | None:
    """Return the first order of a prompt to write a file; None when there is none."""
    order = _FILE_ORDER.search(question)
    if order is None:
        return None
    verb, file = order[1].lower(), order[2]
    if verb == "edit" and (change := _REPLACING.search(question, order.end())):
        return Order(verb, file, _unescaped(change[4]), _unescaped(change[2]))
    content = _CONTAINING.search(question, order.end())
    return Order(verb, file, None if content is None else _unescaped(content[2]))


def working_directory(texts: Iterator[str]) -> str | None:
    """Return the directory that a client says it works in; None when it does not say."""
    stated = (_WORKING_DIRECTORY.search(text) for text in texts)
    return next((match[1].rstrip() for match in stated if match is not None), None)


def offered_tools(tools: list[Any]) -> dict[str, list[str] | None]:
    """Return the parameter names of each tool by its name; None for a custom tool, which takes free text."""
    offered: dict[str, list[str] | None] = {}
    for tool in tools:
        for kind in ("function", "custom"):
            named = tool.get(kind) if isinstance(tool, dict) else None
            if isinstance(named, dict) and isinstance(named.get("name"), str):
                schema = named.get("parameters")
                properties = schema.get("properties") if isinstance(schema, dict) else None
                names = list(properties) if isinstance(properties, dict) else []
                offered[named["name"]] = names if kind == "function" else None
    return offered


def tool_for(order: Order, offered: Mapping[str, list[str] | None], *, any_tool: bool) -> str | None:
    """Return the offered tool that carries out the order; with `any_tool` the first one where none does."""
    wanted = [name for name in (_CREATE_TOOLS if order.verb == "create" else _EDIT_TOOLS) if name in offered]
    return next(iter(wanted + list(offered) if any_tool else wanted), None)


def tool_call(
    tool: str, order: Order, parameters: list[str] | None, directory: str | None, *, secrets: str = ""
) -> ToolCall:
    """Return the call of `tool` that carries out the order; `secrets` are lines added to what it writes.

    A relative file lies in `directory`: the tools of most clients want an absolute path.
    """
    file = order.file if directory is None else str(PurePosixPath(directory, order.file))
    text = f"# {order.file}\nwritten = 'by the demo upstream'" if order.text is None else order.text
    if order.old is None or secrets:
        text = text.removesuffix("\n") + "\n" + secrets
    patch = _patch(file, order.old, text)
    values = {
        **dict.fromkeys(("path", "filePath"), file),
        **dict.fromkeys(("file_text", "content", "code", "new_str", "newString"), text),
        **dict.fromkeys(("old_str", "oldString"), "old" if order.old is None else order.old),
        **dict.fromkeys(("input", "patchText"), patch),
        **dict.fromkeys(("explanation", "description"), "asked for by the prompt"),
    }
    # A tool that is offered without a schema gets the parameters of Copilot CLI's tools of that name.
    usual = ["path", "old_str", "new_str"] if tool in _EDIT_TOOLS else ["path", "file_text"]
    given = {name: values[name] for name in parameters or usual if name in values}
    arguments = patch if parameters is None else json.dumps(given)
    call_id = hashlib.sha256(f"{tool}{arguments}".encode()).hexdigest()[:24]
    return ToolCall(f"call_{call_id}", tool, arguments)


def _patch(file: str, old: str | None, text: str) -> str:
    """Return the order in the format of `apply_patch`, which replaces whole lines."""
    added = "".join(f"+{line}\n" for line in text.splitlines())
    if old is None:
        return f"*** Begin Patch\n*** Add File: {file}\n{added}*** End Patch\n"
    removed = "".join(f"-{line}\n" for line in old.splitlines())
    return f"*** Begin Patch\n*** Update File: {file}\n@@\n{removed}{added}*** End Patch\n"


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n")
