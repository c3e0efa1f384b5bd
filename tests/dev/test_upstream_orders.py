from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dev.upstream_orders import Order, find_order, offered_tools, tool_call, tool_for, working_directory

CLI_CREATE, CLI_EDIT = ["path", "file_text"], ["path", "old_str", "new_str"]
CHANGE = Order("edit", "a.txt", "new\nlines", "old")


@pytest.mark.parametrize(
    ("question", "order"),
    [
        ("create a.txt", Order("create", "a.txt")),
        ('create the file `src/a.txt` containing "two words"', Order("create", "src/a.txt", "two words")),
        (r"create a.txt containing 'x\ny \"z\"'", Order("create", "a.txt", 'x\ny \\"z\\"')),
        ('create a.txt containing ""', Order("create", "a.txt", "")),
        ('Edit /w/a.txt Replacing "old" With `new`, please', Order("edit", "/w/a.txt", "new", "old")),
        (r'"edit a.txt replacing \"old\" with \"a\nb\""', Order("edit", "a.txt", "a\nb", "old")),
        ('edit a.txt replacing "old" with ""', Order("edit", "a.txt", "", "old")),
        ('edit a.txt replacing "old"', Order("edit", "a.txt")),
        ('edit a.txt containing "new"', Order("edit", "a.txt", "new")),
        ('create a.txt replacing "old" with "new"', Order("create", "a.txt")),
        ("what did they create?", None),
    ],
)
def test_an_order_is_read_with_its_texts(question: str, order: Order | None) -> None:
    assert find_order(question) == order


@given(st.text().filter(lambda text: "\\" not in text and '"' not in text))
def test_any_text_between_quotation_marks_is_written(text: str) -> None:
    assert find_order(f'create a.txt containing "{text}"') == Order("create", "a.txt", text)


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("* Current working directory: /home/me/my app\n* Git repository root: /home", "/home/me/my app"),
        ("<env>\n  Working directory: /w\n  Workspace root folder: /\n</env>", "/w"),
        ("I am working in a workspace with the following folders:\n - /w/a\n - /w/b\n", "/w/a"),
        ("your working directory is secret", None),
    ],
)
def test_the_working_directory_is_read_as_each_client_states_it(text: str, directory: str | None) -> None:
    assert working_directory(iter(["hello", text])) == directory


def _arguments(tool: str, order: Order, parameters: list[str], directory: str | None = None) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(tool_call(tool, order, parameters, directory).arguments)
    return arguments


def test_a_relative_file_lies_in_the_working_directory_and_an_absolute_one_stays() -> None:
    assert _arguments("create", Order("create", "a/b.txt"), CLI_CREATE, "/w")["path"] == "/w/a/b.txt"
    assert _arguments("create", Order("create", "/x/b.txt"), CLI_CREATE, "/w")["path"] == "/x/b.txt"
    assert _arguments("create", Order("create", "b.txt"), CLI_CREATE)["path"] == "b.txt"


@pytest.mark.parametrize(
    ("tool", "parameters", "expected"),
    [
        ("edit", CLI_EDIT, {"path": "a.txt", "old_str": "old", "new_str": "new\nlines"}),
        (
            "replace_string_in_file",
            ["filePath", "oldString", "newString"],
            {"filePath": "a.txt", "oldString": "old", "newString": "new\nlines"},
        ),
        ("insert_edit_into_file", ["filePath", "code"], {"filePath": "a.txt", "code": "new\nlines"}),
    ],
)
def test_a_change_is_said_in_each_tools_own_words(tool: str, parameters: list[str], expected: Any) -> None:
    assert _arguments(tool, CHANGE, parameters) == expected


def test_what_is_created_ends_with_a_newline() -> None:
    for text in ("hi", "hi\n"):
        assert _arguments("write", Order("create", "a", text), ["filePath", "content"])["content"] == "hi\n"


def test_apply_patch_adds_a_file_and_replaces_lines_as_free_text_and_as_a_function() -> None:
    added = tool_call("apply_patch", Order("create", "a.txt", "one\ntwo"), None, "/w").arguments
    assert added == "*** Begin Patch\n*** Add File: /w/a.txt\n+one\n+two\n*** End Patch\n"
    changed = "*** Begin Patch\n*** Update File: a.txt\n@@\n-old\n+new\n+lines\n*** End Patch\n"
    assert tool_call("apply_patch", CHANGE, None, None).arguments == changed
    assert _arguments("apply_patch", CHANGE, ["patchText"]) == {"patchText": changed}


def test_secrets_are_lines_after_what_is_written() -> None:
    for order in (Order("create", "a", "text"), Order("edit", "a", "text", "old")):
        call = tool_call("write", order, ["content"], None, secrets="KEY=1\n")
        assert json.loads(call.arguments) == {"content": "text\nKEY=1\n"}


def test_the_tool_is_one_that_carries_out_the_order() -> None:
    tools: list[Any] = [
        {"function": {"name": name, "parameters": {}}} for name in ("bash", "edit", "write", "apply_patch")
    ]
    offered = offered_tools([*tools, {"custom": {"name": "free"}}, {"type": "web_search"}, "odd"])
    assert offered == {"bash": [], "edit": [], "write": [], "apply_patch": [], "free": None}
    assert tool_for(Order("create", "a"), offered, any_tool=False) == "write"
    assert tool_for(Order("edit", "a"), offered, any_tool=False) == "edit"
    assert tool_for(Order("edit", "a"), {"bash": []}, any_tool=False) is None
    assert tool_for(Order("edit", "a"), {"bash": []}, any_tool=True) == "bash"
