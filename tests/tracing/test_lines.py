from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.tracing.lines import (
    MAX_FINGERPRINTS,
    added_lines,
    fingerprint_each,
    fingerprints,
    is_trivial,
    normalised,
    proposed_fingerprints,
    proposed_lines,
)

KEY = bytes(range(32))
LINE = "total = sum(values)"


def answer(text: str = "", *calls: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """Return a response; arguments of calls that are no text are written as JSON."""
    written = [(name, given if isinstance(given, str) else json.dumps(given)) for name, given in calls]
    tool_calls = [{"id": "c", "name": name, "arguments": arguments, "paths": []} for name, arguments in written]
    return {"text": text, "tool_calls": tool_calls, **more}


def proposed(response: Any, **request: Any) -> list[str]:
    return proposed_lines({"response": response, "request": request or None})


# --- What is code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Here:\n```python\na = 1\nb = 2\n```\nDone.", ["a = 1", "b = 2"]),
        ("~~~\na = 1\n~~~\nand\n```js\nb = 2\n```", ["a = 1", "b = 2"]),
        ("```python\r\na = 1\r\n```\r\nDone.", ["a = 1\r"]),
        ("````md\n```\nx\n```\n````", ["```", "x", "```"]),
        ("1. ```sh\n   make\n   ```", ["   make"]),
        ("> ```\n> a = 1\n> ```\n> said", ["a = 1"]),
        ("It was cut:\n```\na = 1", ["a = 1"]),
        ("```diff\n a\n-b\n+c\n```", ["c"]),
        ("```\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-b\n+c\n```", ["c"]),
        ("All but `code` is prose, and ``` is no fence here", []),
        ("```\n```", []),
    ],
)
def test_fenced_blocks_are_code(text: str, lines: list[str]) -> None:
    assert proposed(answer(text)) == lines


def test_text_without_a_fence_is_code_as_completions_and_inline_edits_are() -> None:
    assert proposed(answer("a = 1\nb = 2")) == ["a = 1", "b = 2"]


def test_text_beside_tool_calls_is_prose() -> None:
    assert proposed(answer("I write the file.", ("create", {"path": "x", "file_text": "a = 1"}))) == ["a = 1"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "x", "file_text": LINE},
        {"filePath": "x", "content": LINE},
        {"filePath": "x", "code": LINE, "explanation": "why"},
        {"path": "x", "insert_line": 3, "new_str": LINE},
        {"path": "x", "insert_text": LINE},
        {"files": [{"path": "x", "content": LINE}]},
        {"explanation": "why", "replacements": [{"filePath": "x", "oldString": "a", "newString": LINE}]},
        {"filePath": "x.ipynb", "newCode": [LINE]},
        {"input": f"*** Begin Patch\n*** Update File: x\n@@\n context\n-gone\n+{LINE}\n*** End Patch"},
        {"patchText": f"*** Begin Patch\n*** Add File: x\n+{LINE}\n*** End Patch"},
        {"path": "x", "diff": f"<<<<<<< SEARCH\ngone\nstays\n=======\nstays\n{LINE}\n>>>>>>> REPLACE"},
        f"*** Begin Patch\n*** Add File: x\n+{LINE}\n*** End Patch",
        json.dumps(f"*** Begin Patch\n*** Add File: x\n+{LINE}\n*** End Patch"),
        # Cut in the middle, as they are recorded of an answer that was interrupted.
        f'{{"path": "x", "content": "{LINE}',
        f'{{"path": "x", "content": "{LINE}\\',
        f'{{"path": "x", "old_str": "gone\\n", "new_str": "gone\\n{LINE}\\u00',
    ],
)
def test_what_tools_write_is_code(arguments: Any) -> None:
    assert proposed(answer("", ("any", arguments))) == [LINE]


def test_a_here_document_is_code_and_another_command_is_not() -> None:
    writing = f"cat > x <<'EOF'\n{LINE}\nEOF"
    assert LINE in proposed(answer("", ("bash", {"command": writing})))
    assert LINE in proposed(answer("", ("shell", {"command": ["bash", "-lc", writing]})))
    assert proposed(answer("", ("bash", {"command": "make test\nmake lint", "description": LINE}))) == []


def test_lines_that_an_edit_takes_over_are_not_proposed_by_it() -> None:
    edit = {"path": "x", "old_str": "def f():\n    pass", "new_str": "def f():\n    return compute(1)"}
    assert proposed(answer("", ("edit", edit))) == ["    return compute(1)"]


def test_what_is_only_read_or_said_is_no_code() -> None:
    assert proposed(answer("", ("view", {"path": "src/app.py"}), ("grep", {"pattern": LINE}))) == []


def test_all_choices_propose() -> None:
    choices = [answer("first_one()"), answer("second_one()")]
    assert proposed({**choices[0], "choices": choices}) == ["first_one()", "second_one()"]


def test_a_completion_has_what_stands_around_the_cursor() -> None:
    messages = [{"role": "user", "content": "import os\nresult = ma"}, {"role": "suffix", "content": ") + 1\nprint()"}]
    request = {"endpoint": "completions", "messages": messages}
    assert proposed(answer("x(values"), **request) == ["result = max(values", "result = max(values) + 1"]
    assert proposed(answer("x(\n    values"), **request) == ["result = max(", "    values", "    values) + 1"]
    assert proposed(answer(""), **request) == []


def test_a_completion_is_code_even_with_fences_in_it() -> None:
    assert proposed(answer("a = 1\n```\nb = 2"), endpoint="completions") == ["a = 1", "```", "b = 2"]


@pytest.mark.parametrize(("endpoint", "lines"), [("chat", [LINE]), ("mcp", []), ("github", []), (None, [LINE])])
def test_only_models_propose(endpoint: str | None, lines: list[str]) -> None:
    assert proposed(answer(LINE), endpoint=endpoint) == lines
    assert len(proposed_fingerprints(answer(LINE), KEY, {"endpoint": endpoint})) == len(lines)


def test_headers_of_a_patch_are_not_added() -> None:
    assert added_lines(["--- a/x", "+++ b/x", "@@ -1 +1,2 @@", " a", "+++i", "+"]) == ["++i", ""]


# --- Fingerprints ----------------------------------------------------------------------------------------------------


def test_a_fingerprint_does_not_depend_on_indentation_and_blanks() -> None:
    one, *others = fingerprint_each(["\treturn  x +\ty\r", "return x + y", "    return x + y   "], KEY)
    assert one is not None
    assert others == [one, one]
    assert len(one) == 11


@pytest.mark.parametrize(
    ("key", "line"),
    [(KEY, "return X + y"), (KEY, "return x+y + z"), (bytes(32), "return x + y")],
    ids=["case", "text", "key"],
)
def test_a_fingerprint_depends_on_everything_else(key: bytes, line: str) -> None:
    assert fingerprints([line], key) != fingerprints(["return x + y"], KEY)


def test_fingerprints_stay_what_they_are() -> None:
    # Those in stores would match no more.
    assert fingerprints(["return x + y", "import os"], KEY) == ["hBk2cGh-CJc", "sdsQNu7M91A"]


@pytest.mark.parametrize(
    "line", ["", "}", "});", "else:", "return", "continue;", "} finally {", "i += 1", "# -----------------", "größe"]
)
def test_a_trivial_line_has_no_fingerprint(line: str) -> None:
    assert is_trivial(line)
    assert fingerprint_each([line, LINE], KEY)[0] is None
    assert fingerprints([line], KEY) == []


@pytest.mark.parametrize("line", ["def add(a, b):", "return a + b", "import os", "finalise(it)", "größer = größe"])
def test_a_line_that_says_something_has_one(line: str) -> None:
    assert not is_trivial(line)
    assert len(fingerprints([line], KEY)) == 1


def test_an_exchange_has_each_fingerprint_once_and_a_bounded_number() -> None:
    assert fingerprints([LINE, f"  {LINE}", "other_line()"], KEY) == fingerprints([LINE, "other_line()"], KEY)
    many = "\n".join(f"value_{number} = call({number})" for number in range(MAX_FINGERPRINTS + 10))
    assert len(proposed_fingerprints(answer(many), KEY)) == MAX_FINGERPRINTS


@given(st.lists(st.text()))
def test_each_line_has_the_fingerprint_it_has_alone(lines: list[str]) -> None:
    alone = [fingerprints([line], KEY) for line in lines]
    assert [[one] if one else [] for one in fingerprint_each(lines, KEY)] == alone
    assert fingerprints(lines, KEY) == list(dict.fromkeys(one for each in alone for one in each))


@given(st.text())
def test_a_normalised_line_stays_as_it_is(line: str) -> None:
    assert normalised(normalised(line)) == normalised(line)


# --- Odd values ------------------------------------------------------------------------------------------------------

SURROGATES = st.text(st.characters())
KEYS = st.sampled_from(["text", "tool_calls", "choices", "arguments", "name", "content", "old_str", "new_str", "input"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SURROGATES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
)
TEXTS = st.lists(st.sampled_from(["```", "~~~~", "\n", " ", ">", "diff", "+a_line()", "{", '"', "\\", "\ud83d", "x"]))


@given(JSON, JSON)
def test_nothing_that_was_recorded_raises(response: Any, request: Any) -> None:
    assert isinstance(proposed_fingerprints(response, KEY, request), list)


@given(TEXTS.map("".join), TEXTS.map("".join), st.sampled_from(["chat", "completions"]))
def test_no_text_and_no_arguments_raise(text: str, arguments: str, endpoint: str) -> None:
    request = {"endpoint": endpoint, "messages": [{"role": "user", "content": arguments}]}
    proposed_fingerprints(answer(text, ("edit", arguments)), KEY, request)


def test_deep_arguments_do_not_raise() -> None:
    assert proposed(answer("", ("edit", "[" * 100_000))) == []
    assert proposed(answer("", ("edit", '{"a":' * 5_000 + "1" + "}" * 5_000))) == []
