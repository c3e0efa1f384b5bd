from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.change import text_of


def shown(name: str, arguments: Any, **others: Any) -> list[str]:
    return text_of(json.dumps({"name": name, "arguments": arguments, **others})).split("\n")


@pytest.mark.parametrize(
    "names", [("path", "old_str", "new_str"), ("filePath", "oldString", "newString")], ids=["Copilot CLI", "VS Code"]
)
@pytest.mark.parametrize("as_text", [True, False])
def test_an_edit_is_a_unified_diff(names: tuple[str, str, str], *, as_text: bool) -> None:
    members = dict(zip(names, ("infra/prod.tf", "count = 1\nsize = 2\n", "count = 3\nsize = 2\n"), strict=True))
    assert shown("edit", json.dumps(members) if as_text else members) == [
        "edit:",
        "--- a/infra/prod.tf",
        "+++ b/infra/prod.tf",
        "@@ -1,3 +1,3 @@",
        "-count = 1",
        "+count = 3",
        " size = 2",
        " ",
    ]


@pytest.mark.parametrize("name", ["file_text", "content"])
def test_a_new_file_is_all_added(name: str) -> None:
    assert shown("create", {"path": "a.tf", name: "x\ny"}) == [
        "create:",
        "--- /dev/null",
        "+++ b/a.tf",
        "@@ -0,0 +1,2 @@",
        "+x",
        "+y",
    ]


def test_an_insertion_says_where() -> None:
    assert shown("insert", {"path": "a.tf", "insert_line": 7, "new_str": "x\ny"})[1:] == [
        "--- a/a.tf",
        "+++ b/a.tf",
        "@@ -7,0 +8,2 @@",
        "+x",
        "+y",
    ]


def test_an_edit_of_several_places_shows_each_of_them() -> None:
    edits = [{"filePath": f"{n}.tf", "oldString": f"{n}", "newString": "new"} for n in range(3)]
    lines = shown("multi_replace_string_in_file", {"explanation": "why", "replacements": edits})
    assert [line for line in lines if line.startswith("---")] == ["--- a/0.tf", "--- a/1.tf", "--- a/2.tf"]
    assert [line for line in lines if line in {"-0", "-1", "-2"}] == ["-0", "-1", "-2"]
    assert '  "explanation": "why"' in lines


PATCH = "*** Begin Patch\n*** Update File: infra/prod.tf\n@@\n-a\n+b\n*** End Patch"


@pytest.mark.parametrize("arguments", [PATCH, {"input": PATCH}, {"patchText": PATCH}, {"patch": PATCH}])
def test_a_patch_is_shown_as_it_is(arguments: Any) -> None:
    assert shown("apply_patch", arguments) == ["apply_patch:", *PATCH.split("\n")]


def test_any_other_call_is_json() -> None:
    assert shown("bash", {"command": "rm -rf /\nls"}) == ["bash:", "{", '  "command": "rm -rf /\\nls"', "}"]


def test_what_is_no_call_is_indented_json_or_the_text_itself() -> None:
    assert text_of('{"method":"PUT","path":"/x"}') == '{\n  "method": "PUT",\n  "path": "/x"\n}'
    assert text_of("no JSON at all") == "no JSON at all"
    assert text_of("[" * 100_000) == "[" * 100_000
    assert text_of("[]") == ""


def test_calls_are_shown_in_their_order() -> None:
    text = text_of(json.dumps([{"name": name, "arguments": "{}"} for name in ("b", "a")]))
    assert text == "b:\n\na:"


# --- nothing can be hidden -------------------------------------------------------------------------------------------


def test_members_that_are_no_part_of_the_diff_are_shown_below_it() -> None:
    members = {"path": "a", "old_str": "1", "new_str": "2", "oldString": "hidden", "file_text": "too"}
    lines = shown("edit", members, id="call_1")
    assert '  "oldString": "hidden",' in lines
    assert '  "file_text": "too"' in lines
    assert '  "id": "call_1"' in lines


def test_a_member_that_is_written_twice_is_shown_as_it_was_written() -> None:
    arguments = '{"path": "a", "old_str": "1", "new_str": "good", "new_str": "bad"}'
    assert shown("edit", arguments) == ["edit:", arguments]
    proposal = '{"name": "a", "name": "b", "arguments": "{}"}'
    assert text_of(proposal) == proposal


def test_a_path_cannot_write_lines_of_the_diff() -> None:
    lines = shown("x\ny", {"path": "a\n+++ b/harmless", "old_str": "1", "new_str": "2"})
    assert lines[:3] == ["x\\ny:", "--- a/a\\n+++ b/harmless", "+++ b/a\\n+++ b/harmless"]


@pytest.mark.parametrize(("old", "new"), [("a\r", "a"), ("a\u2028b", "a\nb"), ("a\n", "a"), ("a\x0bb", "ab")])
def test_a_change_of_line_ends_is_a_change(old: str, new: str) -> None:
    lines = shown("edit", {"path": "a", "old_str": old, "new_str": new})
    assert any(line.startswith("-") for line in lines[3:])


def test_an_edit_that_changes_nothing_says_so() -> None:
    assert shown("edit", {"path": "a", "old_str": "1", "new_str": "1"})[3:] == ["(no change)"]


def test_long_texts_are_not_compared() -> None:
    old, new = "\n".join("a" * 3000), "\n".join("b" * 3000)
    lines = shown("edit", {"path": "a", "old_str": old, "new_str": new})
    assert lines[3] == "@@ -1,3000 +1,3000 @@"
    assert len(lines) == 4 + 6000


NAMES = ["path", "filePath", "old_str", "new_str", "file_text", "content", "insert_line", "input", "replacements", "x"]
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
def test_every_text_of_any_call_is_shown(members: dict[str, Any]) -> None:
    text = "\n".join(shown("tool", members))

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [one for inner in value.values() for one in texts(inner)]
        if isinstance(value, list):
            return [one for inner in value for one in texts(inner)]
        return [value] if isinstance(value, str) else [json.dumps(value)]

    for one in texts(members):
        # As a text of its own, as a string in JSON, or line by line in a diff.
        escaped = json.dumps(one, ensure_ascii=False)[1:-1]
        assert one in text or escaped in text or all(line in text for line in one.split("\n"))


@given(st.text())
def test_any_text_can_be_shown(proposal: str) -> None:
    assert isinstance(text_of(proposal), str)
