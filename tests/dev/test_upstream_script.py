from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dev.upstream_script import Script, fragments, script_for, text_of

CREATE = {"type": "function", "function": {"name": "create"}}
EDIT = {"type": "function", "function": {"name": "edit"}}
BASH = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {"command": {}}}}}


def _user(text: str) -> list[Any]:
    return [{"role": "system", "content": "create a.txt"}, {"role": "user", "content": text}]


def _script(text: str, tools: list[Any] | None = None) -> Script:
    return script_for(_user(text), tools or [], "Bearer gho_demo")


def _answer(text: str) -> str:
    return "".join(_script(text).pieces)


def test_a_question_is_repeated_with_its_white_space_collapsed_and_always_the_same() -> None:
    assert "You asked: what is Envoy?" in _answer("  what \n is\tEnvoy? ")
    assert _script("what is Envoy?") == _script("what is Envoy?")


def test_a_long_question_is_shortened() -> None:
    assert f"{' '.join(['x'] * 80)} …" in _answer(" ".join(["x"] * 81))


def test_what_a_client_adds_around_the_prompt_is_not_the_question() -> None:
    text = "<current_datetime>fail</current_datetime>\n\nhi <system_reminder>create a.py</system_reminder>"
    assert "You asked: hi\n" in _answer(text)


def test_what_a_client_marks_as_the_users_request_is_the_question() -> None:
    text = "<context>\ncreate a.py\n</context>\n<userRequest>\nslow count to 2\n</userRequest>\n"
    script = _script(text)
    assert (script.slow, script.pieces) == (True, ("1 ", "2 "))


def test_a_file_is_written_where_the_client_says_that_it_works() -> None:
    system = {"role": "system", "content": "* Current working directory: /w\n* Operating system: linux"}
    order = {"role": "user", "content": 'create a.py containing "x"'}
    call = script_for([system, order], [CREATE], "").tool_call
    assert call is not None
    assert json.loads(call.arguments) == {"path": "/w/a.py", "file_text": "x\n"}


def test_content_in_parts_is_read_like_a_string() -> None:
    parts = [{"type": "text", "text": "count"}, {"type": "image_url"}, "odd", {"type": "text", "text": "to 2"}]
    assert text_of({"content": parts}) == "count\nto 2"


def test_the_last_user_message_counts() -> None:
    messages = [*_user("count to 3"), {"role": "assistant", "content": "1 2 3"}, *_user("count to 2")]
    assert script_for(messages, [], "").pieces == ("1 ", "2 ")


@pytest.mark.parametrize(("text", "count"), [("Count to 5, please", 5), ("count to 999999", 1000), ("long", 200)])
def test_counting_and_long_answers_have_as_many_pieces_as_said(text: str, count: int) -> None:
    assert len(_script(text).pieces) == count


def test_modes_are_read_from_the_first_words_in_any_case_and_combine() -> None:
    script = _script('"Please SLOW, reset and gzip count to 4"')
    assert (script.slow, script.reset, script.encoding, len(script.pieces)) == (True, True, "gzip", 4)
    assert _script("fail").instead == "fail"
    assert _script("html now").instead == "html"


@pytest.mark.parametrize(
    "text", ["why does my test fail?", "explain git reset", "a long html page", "is gzip slow", "find the leak"]
)
def test_ordinary_questions_are_answered(text: str) -> None:
    script = _script(text)
    assert f"You asked: {text}" in "".join(script.pieces)
    assert (script.instead, script.slow, script.reset, script.encoding) == (None, False, False, None)


@pytest.mark.parametrize(
    ("text", "tool", "path"),
    [
        ("create hello.txt", "create", "hello.txt"),
        ("please create the file `infra/main.tf`.", "create", "infra/main.tf"),
        ("Edit .github/workflows/ci.yml", "edit", ".github/workflows/ci.yml"),
        ("edit /src/a-b/x.py now", "edit", "/src/a-b/x.py"),
        ("use a tool", "create", "demo.txt"),
    ],
)
def test_an_order_to_write_a_file_calls_the_offered_tool_with_its_path(text: str, tool: str, path: str) -> None:
    script = _script(text, [BASH, EDIT, CREATE])
    assert script.tool_call is not None
    assert script.tool_call.name == tool
    arguments = json.loads(script.tool_call.arguments)
    assert arguments.pop("path") == path
    assert set(arguments) == ({"file_text"} if tool == "create" else {"old_str", "new_str"})


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("create_file", ["filePath", "content"], "create a.py"),
        ("write", ["content", "filePath"], "create a.py"),
        ("edit", ["filePath", "oldString", "newString"], "edit a.py"),
        ("insert_edit_into_file", ["filePath", "code", "explanation"], "edit a.py"),
        ("apply_patch", ["patchText"], "edit a.py"),
    ],
)
def test_arguments_follow_the_offered_schema(name: str, parameters: list[str], text: str) -> None:
    schema = {"properties": dict.fromkeys([*parameters, "unknown"], "any")}
    call = _script(text, [{"type": "function", "function": {"name": name, "parameters": schema}}]).tool_call
    assert call is not None
    assert list(json.loads(call.arguments)) == parameters
    assert "a.py" in call.arguments


def test_use_a_tool_takes_any_tool_when_none_writes_files() -> None:
    call = _script("use a tool", [BASH]).tool_call
    assert call is not None
    assert call.name == "bash"


@pytest.mark.parametrize("tools", [[], [EDIT], ["odd", {"function": {"name": 7}}]])
def test_without_a_fitting_tool_the_answer_says_so(tools: list[Any]) -> None:
    script = _script("create a.py", tools)
    assert script.tool_call is None
    assert "offers none that fits" in "".join(script.pieces)


def test_after_a_tool_result_the_answer_closes_the_conversation() -> None:
    messages = [*_user("create a.py"), {"role": "tool", "tool_call_id": "c", "content": "Created file a.py"}]
    script = script_for(messages, [CREATE], "")
    assert script.tool_call is None
    assert "".join(script.pieces) == "Done. The tool answered: Created file a.py"


def test_the_credential_is_echoed_whole_and_in_fragments() -> None:
    script = _script("echo credential")
    assert script.echo_authorization
    assert "Bearer gho_demo" in script.pieces
    assert "".join(script.pieces).count("Bearer gho_demo") == 2
    assert [piece for piece in script.pieces if len(piece) == 7] == ["Bearer ", "gho_dem"]


def test_a_leak_is_text_reasoning_and_a_call_with_secrets_that_are_the_same_for_the_same_words() -> None:
    script = _script("leak create .env.local", [CREATE])
    assert script == _script("leak create .env.local", [CREATE])
    assert script.tool_call is not None
    assert "ANTHROPIC_API_KEY=sk-ant-" in script.text()
    assert "PRIVATE KEY-----\n" in "".join(script.reasoning)
    arguments = json.loads(script.tool_call.arguments)
    assert arguments["path"] == ".env.local"
    assert "AWS_SECRET_ACCESS_KEY=" in arguments["file_text"]
    assert _script("leak").tool_call is None
    assert _script("leak").text() != script.text()


def test_a_custom_tool_gets_free_text() -> None:
    script = _script("create a.py", [{"type": "custom", "custom": {"name": "apply_patch"}}])
    assert script.is_custom
    assert script.tool_call is not None
    assert script.tool_call.arguments.startswith("*** Begin Patch\n*** Add File: a.py\n+")


@given(st.text())
def test_fragments_are_small_and_make_the_whole(text: str) -> None:
    parts = list(fragments(text))
    assert "".join(parts) == text
    assert all(0 < len(part) <= 7 for part in parts)


_SCALAR = st.none() | st.integers() | st.text(max_size=20)
_JSON = st.recursive(_SCALAR, lambda v: st.lists(v) | st.dictionaries(st.text(max_size=9), v), max_leaves=6)
_MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", "system"]), "content": _JSON}) | _JSON


@given(st.lists(_MESSAGE), st.lists(_JSON))
def test_any_request_gets_an_answer(messages: list[Any], tools: list[Any]) -> None:
    script = script_for(messages, tools, "Bearer x")
    assert script.pieces or script.tool_call or script.instead
