from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import ToolCall
from extproc.tool_paths import MAX_DEPTH, touched

PATCH = """\
*** Begin Patch
*** Update File: src/a b.py
*** Move to: src/c.py
@@
-x
+*** Add File: not/this.py
*** Add File: infra/main.tf
+resource "x" {}
*** Delete File: old.py
*** End Patch
"""
PATCHED = ["src/a b.py", "src/c.py", "infra/main.tf", "old.py"]


def paths(arguments: Any) -> list[str]:
    return touched(ToolCall("1", "any", arguments if isinstance(arguments, str) else json.dumps(arguments)))


CALLS = {
    "Copilot CLI: create": ({"path": "/w/a.py", "file_text": "x"}, ["/w/a.py"]),
    "Copilot CLI: edit": ({"path": "/w/a.py", "old_str": "path", "new_str": "y"}, ["/w/a.py"]),
    "Copilot CLI: str_replace_editor": ({"command": "view", "path": "/w"}, ["/w"]),
    "VS Code: create_file": ({"filePath": "/w/a.py", "content": "x"}, ["/w/a.py"]),
    "VS Code: insert_edit_into_file": ({"explanation": "e", "filePath": "a.py", "code": "x"}, ["a.py"]),
    "VS Code: create_directory": ({"dirPath": "/w/d"}, ["/w/d"]),
    "VS Code: edit_notebook_file": ({"filePath": "n.ipynb", "cellId": "1", "newCode": "x"}, ["n.ipynb"]),
    "VS Code: multi_replace_string_in_file": (
        {
            "explanation": "e",
            "replacements": [{"filePath": "a", "oldString": "1"}, {"filePath": "b"}, {"filePath": "a"}],
        },
        ["a", "b"],
    ),
    "VS Code: apply_patch": ({"input": PATCH, "explanation": "e"}, PATCHED),
    "opencode: write": ({"content": "x", "filePath": "/w/a.py"}, ["/w/a.py"]),
    "opencode: apply_patch": ({"patchText": PATCH}, PATCHED),
    "Claude: NotebookEdit": ({"notebook_path": "n.ipynb", "new_source": "x"}, ["n.ipynb"]),
    "GitHub MCP: create_or_update_file": ({"owner": "o", "path": "a.tf", "content": "x"}, ["a.tf"]),
    "GitHub MCP: push_files": ({"files": [{"path": "a", "content": "x"}, {"path": "b"}]}, ["a", "b"]),
    "file system MCP: move_file": ({"source": "a", "destination": "b"}, ["a", "b"]),
    "file system MCP: read_multiple_files": ({"paths": ["a", "b"]}, ["a", "b"]),
    "a rename": ({"old_path": "a", "newPath": "b"}, ["a", "b"]),
    "an editor's uri": ({"edits": [{"uri": "file:///w/a.py"}]}, ["file:///w/a.py"]),
    "an unknown tool with a path in another spelling": ({"Target-File": "a"}, ["a"]),
    "a path in a list in a list": ([[{"file": "a"}]], ["a"]),
    "a shell command, which is not looked into": ({"command": "rm /w/a.py"}, []),
    "no path": ({"path": "", "file": " ", "files": [1, None, True], "uri": {"x": 1}, "filename": "a\nb"}, []),
    "a text as long as a file": ({"source": "x" * 5000}, []),
    "nothing": ({}, []),
}


@pytest.mark.parametrize(("arguments", "expected"), CALLS.values(), ids=CALLS.keys())
def test_the_files_that_a_call_names_are_found(arguments: Any, expected: list[str]) -> None:
    assert paths(arguments) == expected


def test_the_free_text_of_a_custom_tool_is_a_patch() -> None:
    assert paths(PATCH) == PATCHED
    assert paths(PATCH.replace("\n", "\r\n")) == PATCHED
    assert paths(json.dumps(PATCH)) == PATCHED


def test_blanks_around_a_header_are_forgiven_as_by_those_who_apply_it() -> None:
    assert paths("  *** Add File:\t a.py \n***Delete File:b.py") == ["a.py", "b.py"]


@pytest.mark.parametrize(
    "arguments",
    ["", "no patch", '{"path": "/w/a.p', '{"input": "*** Add File: a', '["a', "5", "null", "true", '"/w/a.py"'],
)
def test_what_is_broken_or_no_call_names_nothing(arguments: str) -> None:
    assert paths(arguments) == []


def test_json_that_only_javascript_takes_is_read_all_the_same() -> None:
    assert paths('{"content": "\\ud800", "n": 1e999, "m": ' + "9" * 5000 + ', "path": "infra/\\udc00"}') == ["infra/?"]


def nested(depth: int) -> str:
    return '{"a":' * depth + '{"path":"x"}' + "}" * depth


def test_only_so_deep_is_looked() -> None:
    assert paths(nested(MAX_DEPTH - 1)) == ["x"]
    assert paths(nested(MAX_DEPTH)) == []
    assert paths(nested(50_000)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["path", "files", "input", "x"]), inner),
    max_leaves=12,
)
HEADERS = st.text(st.sampled_from('* \t\nAddFileMovto:{["x'), max_size=60)


@given(st.text() | JSON.map(json.dumps) | HEADERS | st.text().map("*** Add File: {}".format))
def test_no_arguments_make_it_raise_and_what_it_finds_can_be_recorded(arguments: str) -> None:
    found = touched(ToolCall("", "", arguments))
    assert len(found) == len(set(found))
    assert all(path.strip() and "\n" not in path and path.encode() for path in found)
