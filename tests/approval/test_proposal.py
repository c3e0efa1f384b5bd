from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.change import text_of
from extproc.approval.proposal import UNREAD, Proposal, of_answer, of_request
from extproc.approval.touch import Act, Touch
from extproc.conversation import Answer, Choice, ToolCall
from extproc.dialect.chat import ChatDialect
from extproc.endpoint import EndpointKind

EDIT = ToolCall("c1", "create", '{"path": "infra/prod.tf", "file_text": "a\\nb"}')
READ = ToolCall("c2", "view", '{"path": "infra/prod.tf"}')
MERGE = ToolCall("c3", "merge_pull_request", '{"owner": "acme", "repo": "app", "pullNumber": 7}')
ANYTHING = tuple(Touch(act, UNREAD) for act in Act)


def answer(*calls: ToolCall, text: str = "", unparsed: list[str] | None = None) -> Answer:
    return Answer("m", [Choice(0, text, "", list(calls), "stop")], None, complete=True, unparsed=unparsed)


def known(proposal: Proposal | None) -> Proposal:
    assert proposal is not None
    return proposal


def test_an_answer_that_touches_nothing_proposes_nothing() -> None:
    assert of_answer(answer()) is None
    assert of_answer(Answer(None, [], None, complete=False)) is None
    assert of_answer(answer(READ, text="```sh\nls\n```", unparsed=['{"type":"ping"}', "text"])) is None


def test_the_calls_that_touch_something_are_shown_in_their_order() -> None:
    proposal = known(of_answer(answer(EDIT, READ, MERGE, EDIT)))
    assert proposal.touches == (
        Touch(Act.EDIT, "create", "infra/prod.tf"),
        Touch(Act.MERGE, "merge_pull_request", repository="acme/app"),
    )
    assert proposal.calls == (EDIT, MERGE, EDIT)
    assert json.loads(proposal.text) == [
        {"name": call.name, "arguments": call.arguments} for call in (EDIT, MERGE, EDIT)
    ]
    assert text_of(proposal.text).startswith("create:\n--- /dev/null\n+++ b/infra/prod.tf\n@@ -0,0 +1,2 @@\n+a\n+b\n")


def test_every_choice_counts() -> None:
    choices = [Choice(0, "", "", [READ], None), Choice(1, "", "", [EDIT], None)]
    assert known(of_answer(Answer(None, choices, None, complete=True))).calls == (EDIT,)


BLOCKS = "I change it:\n```tf infra/prod.tf\nx = 1\n```\nand\n```\n// filepath: b.tf\n```\nDone."


def test_code_blocks_are_shown_in_their_text_as_it_was_written() -> None:
    proposal = known(of_answer(answer(text=BLOCKS)))
    assert proposal.touches == (Touch(Act.EDIT, "code block", "infra/prod.tf"), Touch(Act.EDIT, "code block", "b.tf"))
    assert proposal.calls == ()
    shown = text_of(proposal.text)
    assert shown.startswith(f"code block:\n{BLOCKS}\n")
    assert json.loads(shown.removeprefix(f"code block:\n{BLOCKS}\n")) == {"paths": ["infra/prod.tf", "b.tf"]}


@pytest.mark.parametrize(
    "unparsed",
    ['{"choices":[{"delta":{"tool_calls":[{"index":"0"}]}}]}', '{"type": "tool_use"}', "(nested too deeply)"],
)
def test_what_may_be_a_call_and_was_not_understood_could_do_anything(unparsed: str) -> None:
    proposal = known(of_answer(answer(unparsed=["x", unparsed])))
    assert proposal.touches == ANYTHING
    assert json.loads(proposal.text) == [{"name": UNREAD, "arguments": unparsed}]


def test_calls_that_are_too_many_to_be_kept_could_do_anything() -> None:
    assert of_answer(answer(*[READ] * 1023)) is None
    assert known(of_answer(answer(*[READ] * 1024))).touches == ANYTHING


def test_a_refused_answer_proposes_nothing() -> None:
    message = {"tool_calls": [{"id": "c", "function": {"name": EDIT.name, "arguments": EDIT.arguments}}]}
    body = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
    assert of_answer(ChatDialect().parse_answer(body)) is not None
    assert of_answer(ChatDialect().parse_answer(ChatDialect().refused_answer(body, "Denied."))) is None


def request(method: str, path: str, body: Any, kind: EndpointKind) -> Proposal | None:
    return of_request(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), kind)


def test_a_request_is_shown_with_its_path_and_its_body() -> None:
    path = "/repos/acme/app/pulls/7/merge"
    proposal = known(request("PUT", path, {"merge_method": "squash"}, EndpointKind.GITHUB))
    tool = "PUT /repos/{owner}/{repo}/pulls/{number}/merge"
    assert proposal.touches == (Touch(Act.MERGE, tool, repository="acme/app"),)
    assert proposal.calls == ()
    assert text_of(proposal.text) == f'PUT {path}:\n{{\n  "merge_method": "squash"\n}}'


def test_a_contents_request_without_a_body_is_shown_by_its_path() -> None:
    proposal = known(request("DELETE", "/repos/acme/app/contents/a.tf?branch=main", b"", EndpointKind.GITHUB))
    assert [(touch.path, touch.branch) for touch in proposal.touches] == [("a.tf", "main")]
    assert text_of(proposal.text) == "DELETE /repos/acme/app/contents/a.tf?branch=main:"


def test_a_mutation_is_shown_whole() -> None:
    body = {"query": "mutation { mergePullRequest(input: {pullRequestId: 1}) { clientMutationId } }"}
    proposal = known(request("POST", "/graphql", body, EndpointKind.GRAPHQL))
    assert [touch.act for touch in proposal.touches] == [Act.MERGE]
    assert json.loads(proposal.text) == [
        {"name": "POST /graphql", "arguments": json.dumps(body, separators=(",", ":"))}
    ]


def test_a_push_is_shown_by_its_size() -> None:
    proposal = known(request("POST", "/acme/app.git/git-receive-pack", b"\x00PACK\xff", EndpointKind.METADATA))
    assert proposal.touches == (Touch(Act.PUSH, "git-receive-pack", repository="acme/app"),)
    assert "6 bytes that are no JSON" in proposal.text


def call(name: str, arguments: Any, **others: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    } | others


def test_calls_at_an_mcp_server_are_shown_as_calls() -> None:
    written = {"owner": "acme", "repo": "app", "path": "a.tf", "content": "x", "branch": "main"}
    body = [call("create_or_update_file", written), call("merge_pull_request", {}, id="b")]
    proposal = known(request("POST", "/mcp", body, EndpointKind.MCP))
    assert [(touch.act, touch.path) for touch in proposal.touches] == [(Act.PUSH, "a.tf"), (Act.MERGE, None)]
    assert [(one.id, one.name) for one in proposal.calls] == [
        ("1", "create_or_update_file"),
        ("b", "merge_pull_request"),
    ]
    assert text_of(proposal.text).startswith("create_or_update_file:\n--- /dev/null\n+++ b/a.tf\n@@ -0,0 +1 @@\n+x\n")


@pytest.mark.parametrize(
    "other", [{"method": "ping"}, call("push_files", {}, params=5), call("", {}, params={}), [1], 5]
)
def test_a_batch_that_is_not_only_calls_is_shown_whole(other: Any) -> None:
    body = [call("merge_pull_request", {}), other]
    proposal = known(request("POST", "/mcp", body, EndpointKind.MCP))
    assert proposal.calls == ()
    [shown] = json.loads(proposal.text)
    assert (shown["name"], json.loads(shown["arguments"])) == ("POST /mcp", body)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("POST", "/chat/completions", {"messages": [{"content": "merge infra/prod.tf"}]}, EndpointKind.CHAT),
        ("GET", "/repos/acme/app/contents/a.tf", b"", EndpointKind.GITHUB),
        ("POST", "/mcp", call("get_file_contents", {"path": "a.tf"}), EndpointKind.MCP),
        ("POST", "/mcp", b"", EndpointKind.MCP),
        ("POST", "/graphql", {"query": "{ viewer { login } }"}, EndpointKind.GRAPHQL),
    ],
)
def test_a_request_that_touches_nothing_proposes_nothing(method: str, path: str, body: Any, kind: EndpointKind) -> None:
    assert request(method, path, body, kind) is None


JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["tools/call", "push_files", "a.tf", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["method", "params", "name", "arguments", "id", "query", "path"]), inner)
    ),
    max_leaves=10,
)


@given(JSON.map(lambda tree: json.dumps(tree).encode()) | st.binary(), st.sampled_from(EndpointKind))
def test_any_request_can_be_shown(body: bytes, kind: EndpointKind) -> None:
    proposal = of_request("POST", "/repos/acme/app/merges", body, kind)
    if proposal is not None:
        assert proposal.touches
        assert text_of(proposal.text)


TEXTS = st.sampled_from(
    ["", "edit", "bash", "{", '{"path": "a"}', "\ud800", "```\n# file: a\n```", '"tool_calls": [1]']
)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_answer_can_be_shown(name: str, arguments: str, text: str, unparsed: str) -> None:
    proposal = of_answer(answer(ToolCall("", name, arguments), text=text, unparsed=[unparsed]))
    if proposal is not None:
        assert all(isinstance(one["arguments"], str) for one in json.loads(proposal.text))
