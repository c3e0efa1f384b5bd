from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.tools import touches_of
from extproc.approval.touch import Act, Touch
from extproc.conversation import ToolCall

PATCH = "*** Begin Patch\n*** Update File: a\n*** Move to: infra/b\n+x\n*** Delete File: c\n*** End Patch"


def touches(name: str, arguments: Any) -> list[Touch]:
    return touches_of(ToolCall("1", name, arguments if isinstance(arguments, str) else json.dumps(arguments)))


def paths(name: str, arguments: Any) -> list[str | None]:
    found = touches(name, arguments)
    assert {touch.act for touch in found} <= {Act.EDIT}
    assert {touch.tool for touch in found} <= {name}
    return [touch.path for touch in found]


EDITS = {
    "Copilot CLI: create": ("create", {"path": "/w/a", "file_text": "x/y"}, ["/w/a"]),
    "Copilot CLI: edit": ("edit", {"path": "/w/a"}, ["/w/a"]),
    "Copilot CLI: insert": ("insert", {"path": "a", "insert_line": 1, "new_str": "x"}, ["a"]),
    "Copilot CLI: apply_patch": ("apply_patch", PATCH, ["a", "infra/b", "c"]),
    "VS Code: apply_patch": ("apply_patch", {"input": PATCH, "explanation": "e"}, ["a", "infra/b", "c"]),
    "opencode: apply_patch": ("apply_patch", {"patchText": PATCH}, ["a", "infra/b", "c"]),
    "a patch under any name": ("apply_patch", {"text": PATCH}, ["a", "infra/b", "c"]),
    "a patch of broken JSON": ("apply_patch", '{"input": "\n' + PATCH, ["a", "infra/b", "c"]),
    "a patch whose header another reader takes": ("apply_patch", "+++ b/infra/x\n", ["b/infra/x", "infra/x"]),
    "a patch without a header": ("apply_patch", "nothing", [None]),
    "a patch without a path": ("apply_patch", "*** Add File:\n+x", [None]),
    "str_replace_editor": ("str_replace_editor", {"command": "create", "path": "a"}, ["a"]),
    "str_replace_editor reads": ("str_replace_editor", {"command": "view", "path": "a"}, []),
    "memory": ("memory", {"command": "str_replace", "path": "/memories/a"}, ["/memories/a"]),
    "VS Code: create_file": ("create_file", {"filePath": "/w/a", "content": "x"}, ["/w/a"]),
    "VS Code: insert_edit_into_file": ("insert_edit_into_file", {"filePath": "a", "code": "x"}, ["a"]),
    "VS Code: replace_string_in_file": ("replace_string_in_file", {"filePath": "a"}, ["a"]),
    "VS Code: multi_replace_string_in_file": (
        "multi_replace_string_in_file",
        {"replacements": [{"filePath": "a"}, {"filePath": "infra/b"}]},
        ["a", "infra/b"],
    ),
    "VS Code: edit_notebook_file": ("edit_notebook_file", {"filePath": "n.ipynb", "newCode": "x"}, ["n.ipynb"]),
    "VS Code: create_directory": ("create_directory", {"dirPath": "infra"}, ["infra"]),
    "VS Code: its own name": ("copilot_createFile", {"filePath": "a"}, ["a"]),
    "opencode: write": ("write", {"content": "x", "filePath": "a"}, ["a"]),
    "Claude: MultiEdit": ("MultiEdit", {"file_path": "a", "edits": []}, ["a"]),
    "an edit without a path": ("create", {"file_text": "x"}, [None]),
    "an edit with an empty path": ("create", {"path": "", "file_text": "x"}, [None]),
    "an edit with a path that is none": ("edit", {"path": "infra/x\n"}, ["infra/x\n"]),
    "an edit with a path that is a number": ("edit", {"path": 5}, [None]),
    "an edit without arguments": ("edit", "", [None]),
    "broken JSON": ("create", '{"path": "a', [None]),
    "a name given twice": ("create", '{"path": "infra/x", "path": "src/x"}', [None]),
    "a name given twice below": ("frob", '{"a": [{"x": 1, "x": 2}]}', [None]),
    "the same name in two cases": ("create", {"path": "a", "Path": "infra/x"}, ["a", "infra/x"]),
    "too deep": ("create", '{"a":' * 40 + '{"path":"x"}' + "}" * 40, [None]),
    "much too deep": ("frob", "[" * 50_000, [None]),
    "an unknown tool with a path": ("frob", {"path": "a", "n": 1}, ["a"]),
    "an unknown tool with a path in any name": ("frob", {"to": "infra/x", "why": "because"}, ["infra/x"]),
    "an unknown tool with a path deep down": ("frob", {"a": [{"b": ["infra\\x"]}]}, ["infra\\x"]),
    "an unknown tool with free text": ("frob", "*** Add File: infra/x", ["infra/x"]),
    "an unknown tool without a path": ("frob", {"question": "why not"}, []),
    "a tool that is named like one that reads": ("review", {"path": "a"}, ["a"]),
    "calls in a call": (
        "multi_tool_use.parallel",
        {"tool_uses": [{"recipient_name": "functions.create_file", "parameters": {"filePath": "infra/x"}}]},
        ["infra/x", "functions.create_file"],
    ),
}


@pytest.mark.parametrize(("name", "arguments", "expected"), EDITS.values(), ids=EDITS.keys())
def test_the_files_that_a_call_would_edit_are_known(name: str, arguments: Any, expected: list[str | None]) -> None:
    assert paths(name, arguments) == expected


READERS = ["view", "read_file", "functions.read_file", "readFile", "grep", "grep_search", "rg", "glob", "list_dir"]
READERS += ["semantic_search", "file_search", "web_fetch", "task", "mcp_github_get_file_contents", "Read", "LS"]
READERS += ["github-mcp-server-get_file_contents", "mcp__fs__read_text_file", "sql", "ask_user"]


@pytest.mark.parametrize("name", READERS)
def test_a_tool_that_reads_touches_nothing(name: str) -> None:
    assert touches(name, {"path": "infra/x", "command": "rm infra/x"}) == []
    assert touches(name, '{"path": "infra') == []


SHELLS = {
    "bash": ("bash", {"command": "rm infra/x", "description": "tidy src/up"}, ["infra/x"]),
    "powershell": ("powershell", {"command": "del infra\\x"}, ["infrax", "infra/x"]),
    "run_in_terminal": ("run_in_terminal", {"command": "touch x", "explanation": "e"}, ["x"]),
    "in a directory": ("shell", {"command": "touch x", "workdir": "infra"}, ["x", "infra/x"]),
    "reads": ("bash", {"command": "cat infra/x"}, []),
    "undecided": ("bash", {"command": "eval y"}, [None, "y"]),
    "words": ("shell", {"command": ["touch", "infra/x"]}, ["infra/x"]),
    "a shell in words": ("shell", {"command": ["bash", "-lc", "cat infra/x"]}, []),
    "a task": (
        "create_and_run_task",
        {"task": {"label": "l", "type": "shell", "command": "touch", "args": ["infra/x"]}},
        ["infra/x", "touch"],
    ),
    "an answer to a program": ("write_bash", {"shellId": "1", "input": "y{enter}"}, []),
    "text to a program": ("write_bash", {"shellId": "1", "input": "open('infra/x')"}, ["infra/x", None]),
    "a command of the editor": ("run_vscode_command", {"commandId": "a.b", "name": "n"}, ["a.b", None]),
    "broken": ("bash", '{"command": "rm', [None]),
    "free text": ("exec", "touch infra/x", ["infra/x"]),
    "an unknown tool with a command": ("mcp_x_frob", {"cmd": "touch infra"}, ["infra"]),
    "an unknown tool with code": ("mcp_x_run_code", {"codeSnippet": "open(x)"}, [None]),
}


@pytest.mark.parametrize(("name", "arguments", "expected"), SHELLS.values(), ids=SHELLS.keys())
def test_the_words_of_a_shell_command_are_touched(name: str, arguments: Any, expected: list[str | None]) -> None:
    found = touches(name, arguments)
    assert {touch.act for touch in found} <= {Act.SHELL}
    assert sorted(map(str, {touch.path for touch in found})) == sorted(map(str, expected))


def test_what_a_command_does_at_github_is_an_act_of_its_own() -> None:
    assert Touch(Act.PUSH, "bash") in touches("bash", {"command": "git push"})
    assert Touch(Act.MERGE, "run_in_terminal") in touches("run_in_terminal", {"command": "gh pr merge 1"})


REPO = {"owner": "o", "repo": "r"}
GITHUB = {
    "merge": ("mcp_github_merge_pull_request", {**REPO, "pullNumber": 1}, [(Act.MERGE, None, "o/r", None)]),
    "a merge says no branch": ("x-merge_pull_request", {**REPO, "base": "dev"}, [(Act.MERGE, None, "o/r", None)]),
    "push": (
        "github-mcp-server-push_files",
        {**REPO, "branch": "main", "files": [{"path": "infra/x", "content": "c"}, {"path": "b"}]},
        [(Act.PUSH, "infra/x", "o/r", "main"), (Act.PUSH, "b", "o/r", "main")],
    ),
    "a path that is none": (
        "push_files",
        {**REPO, "files": [{"path": "a"}, {"path": "infra/x\n"}]},
        [(Act.PUSH, "a", "o/r", None), (Act.PUSH, "infra/x\n", "o/r", None)],
    ),
    "one file": ("create_or_update_file", {**REPO, "path": "a", "branch": "b"}, [(Act.PUSH, "a", "o/r", "b")]),
    "deletion": ("delete_file", {**REPO, "path": "a", "branch": "b"}, [(Act.PUSH, "a", "o/r", "b")]),
    "deletion in the workspace": ("delete_file", {"path": "a"}, [(Act.EDIT, "a", None, None)]),
    "branch": ("functions.create_branch", {**REPO, "branch": "b"}, [(Act.PUSH, None, "o/r", "b")]),
    "update": ("mcp__github__update_pull_request_branch", REPO, [(Act.PUSH, None, "o/r", None)]),
    "workflow": ("actions_run_trigger", {**REPO, "ref": "refs/heads/m"}, [(Act.DISPATCH, None, "o/r", "m")]),
    "no repository": ("push_files", {"owner": 1}, [(Act.PUSH, None, None, None)]),
    "broken": ("mcp_github_push_files", '{"owner"', [(Act.PUSH, None, None, None)]),
    "progress": ("report_progress", {"commitMessage": "m"}, [(Act.PUSH, None, None, None)]),
}


@pytest.mark.parametrize(("name", "arguments", "expected"), GITHUB.values(), ids=GITHUB.keys())
def test_github_write_tools_are_known_behind_any_prefix(name: str, arguments: Any, expected: list[Any]) -> None:
    assert [(one.act, one.path, one.repository, one.branch) for one in touches(name, arguments)] == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["infra/x", "rm -rf y", "\ud800", PATCH]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["path", "files", "command", "input", "owner", "repo"]), inner)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["create", "apply_patch", "bash", "view", "memory", "push_files", "write_bash", "shell", "frob"]
)


@given(NAMES | st.text(), st.text() | JSON.map(json.dumps))
def test_no_call_makes_it_raise_and_what_it_finds_can_be_recorded(name: str, arguments: str) -> None:
    found = touches_of(ToolCall("", name, arguments))
    assert len(found) == len(set(found))
    assert all((touch.path or "").encode() is not None for touch in found)
