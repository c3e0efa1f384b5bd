"""Say which files a call of a tool names: what the record keeps beside the call, and what approval will ask about.

Pure. Only what the arguments say: what a shell command does to files is not looked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from extproc.conversation import ToolCall

# How deep in the arguments is looked; the tools of Copilot clients have paths at most three deep.
MAX_DEPTH: Final = 32

# A longer text, or one of several lines, is no path (PATH_MAX of Linux is 4096).
_MAX_PATH_CHARS: Final = 4096

# Names of arguments, in lower case without `_` and `-`. The tools: create, edit, insert, view, str_replace_editor and
# memory have `path`; VS Code's `filePath` and `dirPath`, others `file_path`, `target_file`, `notebook_path`; tools that
# move have two.
_PATHS: Final = frozenset(
    {"path", "paths", "filepath", "filepaths", "file", "files", "filename", "filenames", "fileuri", "uri", "uris"}
    | {"dirpath", "directory", "folder", "folderpath", "notebookpath", "notebookuri", "targetfile", "targetpath"}
    | {"absolutepath", "relativepath", "relativeworkspacepath", "oldpath", "newpath", "oldfilepath", "newfilepath"}
    | {"oldname", "newname", "olduri", "newuri", "source", "sourcepath", "destination", "destinationpath"}
    | {"frompath", "topath", "previousfilename"}
)
_PATCHES: Final = frozenset({"input", "patch", "patchtext", "patchcontent", "diff"})

# The headers of a patch as apply_patch takes it; blanks around them are forgiven by those who apply it.
_HEADER: Final = re.compile(r"^[ \t]*\*\*\*[ \t]*(?:(?:Add|Update|Delete) File|Move to):(.*)", re.MULTILINE)


def touched(call: ToolCall) -> list[str]:
    """Return the file paths that a call names, as written, in their order, each once.

    Arguments that are no JSON are read as a patch, which is how custom tools get theirs; broken JSON names nothing.
    """
    try:
        # The clients' parsers take lone surrogates and numbers of any size, and so does this one, unlike msgspec's.
        arguments = json.loads(call.arguments, parse_int=float)
    except (ValueError, RecursionError):
        is_json = call.arguments.lstrip().startswith(("{", "[", '"'))
        arguments = None if is_json else call.arguments
    if isinstance(arguments, str):
        arguments = {"patch": arguments}
    return list(dict.fromkeys(_named(arguments, MAX_DEPTH)))


def _named(value: Any, depth: int) -> Iterator[str]:  # noqa: ANN401 - decoded JSON
    """Yield the paths in an argument and all that it holds."""
    if depth == 0:
        return
    if isinstance(value, list):
        for item in value:
            yield from _named(item, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            plain = name.lower().replace("_", "").replace("-", "")
            if plain in _PATHS:
                yield from (text for text in _strings(item) if _is_path(text))
            elif plain in _PATCHES:
                yield from (path for text in _strings(item) for path in _patched(text))
            yield from _named(item, depth - 1)


def _strings(value: Any) -> list[str]:  # noqa: ANN401 - decoded JSON
    items = value if isinstance(value, list) else [value]
    # No lone surrogates: what is found goes into records, which are UTF-8.
    return [item.encode("utf-8", "replace").decode() for item in items if isinstance(item, str)]


def _patched(text: str) -> Iterator[str]:
    return (path for path in (header[1].strip() for header in _HEADER.finditer(text)) if _is_path(path))


def _is_path(text: str) -> bool:
    return 0 < len(text) <= _MAX_PATH_CHARS and "\n" not in text and not text.isspace()
