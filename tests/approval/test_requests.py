from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.requests import touches_of_request
from extproc.approval.touch import Act, Touch
from extproc.endpoint import EndpointKind

MERGE, PUSH, DISPATCH = Act.MERGE, Act.PUSH, Act.DISPATCH


def seen(found: list[Touch]) -> list[tuple[Act, str | None, str | None, str | None]]:
    return [(touch.act, touch.path, touch.repository, touch.branch) for touch in found]


REST = {
    "merge": ("PUT", "/repos/o/r/pulls/1/merge", {"sha": "x"}, [(MERGE, None, "o/r", None)]),
    "merge without a body": ("PUT", "/repos/o/r/pulls/1/merge", None, [(MERGE, None, "o/r", None)]),
    "merge by another method": ("POST", "/repos/o/r/pulls/1/merge", None, [(MERGE, None, "o/r", None)]),
    "merge in another case": ("PUT", "/Repos/o/r/Pulls/1/Merge/", None, [(MERGE, None, "o/r", None)]),
    "merge, escaped": ("PUT", "/repos/o/r/pulls/1/%6derge", None, [(MERGE, None, "o/r", None)]),
    "merge by number": ("PUT", "/repositories/5/pulls/1/merge", None, [(MERGE, None, None, None)]),
    "merge at a server": ("PUT", "/api/v3/repos/o/r/pulls/1/merge", None, [(MERGE, None, "o/r", None)]),
    "is it merged": ("GET", "/repos/o/r/pulls/1/merge", None, []),
    "update branch": ("PUT", "/repos/o/r/pulls/1/update-branch", {}, [(PUSH, None, "o/r", None)]),
    "merge branches": ("POST", "/repos/o/r/merges", {"base": "main", "head": "x"}, [(MERGE, None, "o/r", "main")]),
    "upstream": ("POST", "/repos/o/r/merge-upstream", {"branch": "main"}, [(PUSH, None, "o/r", "main")]),
    "contents": ("PUT", "/repos/o/r/contents/infra/x", {"branch": "b"}, [(PUSH, "infra/x", "o/r", "b")]),
    "contents, escaped": ("PUT", "/repos/o/r/contents/infra%2Fx", {}, [(PUSH, "infra/x", "o/r", None)]),
    "contents, of what": ("PUT", "/repos/o/r/contents", {}, [(PUSH, None, "o/r", None)]),
    "deletion": ("DELETE", "/repos/o/r/contents/a?branch=b", None, [(PUSH, "a", "o/r", "b")]),
    "reading contents": ("GET", "/repos/o/r/contents/a", None, []),
    "new ref": ("POST", "/repos/o/r/git/refs", {"ref": "refs/heads/a/b"}, [(PUSH, None, "o/r", "a/b")]),
    "ref": ("PATCH", "/repos/o/r/git/refs/heads/a/b", {"sha": "x"}, [(PUSH, None, "o/r", "a/b")]),
    "tag": ("DELETE", "/repos/o/r/git/refs/tags/v1", None, [(PUSH, None, "o/r", None)]),
    "tree": (
        "POST",
        "/repos/o/r/git/trees",
        {"tree": [{"path": "infra/x"}, {"path": 5}, 6]},
        [(PUSH, "infra/x", "o/r", None), (PUSH, None, "o/r", None)],
    ),
    "tree of nothing": ("POST", "/repos/o/r/git/trees", {"tree": "x"}, [(PUSH, None, "o/r", None)]),
    "commit": ("POST", "/repos/o/r/git/commits", {}, [(PUSH, None, "o/r", None)]),
    "blob": ("POST", "/repos/o/r/git/blobs", {}, [(PUSH, None, "o/r", None)]),
    "rename": ("POST", "/repos/o/r/branches/a/b/rename", {}, [(PUSH, None, "o/r", "a/b")]),
    "protection": ("DELETE", "/repos/o/r/branches/main/protection/enforce_admins", None, [(PUSH, None, "o/r", "main")]),
    "workflow": (
        "POST",
        "/repos/o/r/actions/workflows/ci.yml/dispatches",
        {"ref": "main"},
        [(DISPATCH, None, "o/r", "main")],
    ),
    "repository dispatch": ("POST", "/repos/o/r/dispatches", {}, [(DISPATCH, None, "o/r", None)]),
    "rerun": ("POST", "/repos/o/r/actions/runs/1/rerun-failed-jobs", None, [(DISPATCH, None, "o/r", None)]),
    "release": ("POST", "/repos/o/r/releases", {"tag_name": "v1"}, [(PUSH, None, "o/r", None)]),
    "ruleset": ("PUT", "/repos/o/r/rulesets/1", {}, [(PUSH, None, "o/r", None)]),
    "ruleset of all": ("POST", "/orgs/o/rulesets", {}, [(PUSH, None, None, None)]),
    "default branch": ("PATCH", "/repos/o/r", {"default_branch": "x"}, [(PUSH, None, "o/r", None)]),
    "description": ("PATCH", "/repos/o/r", {"description": "x"}, []),
    "deletion of all": ("DELETE", "/repos/o/r", None, [(PUSH, None, "o/r", None)]),
    "comment": ("POST", "/repos/o/r/issues/1/comments", {"body": "merge"}, []),
    "new pull request": ("POST", "/repos/o/r/pulls", {"base": "main"}, []),
    "user": ("PATCH", "/user", {}, []),
    "git": ("POST", "/o/r.git/git-receive-pack", None, [(PUSH, None, "o/r", None)]),
    "git without its ending": ("POST", "/o/r/git-receive-pack", None, [(PUSH, None, "o/r", None)]),
    "fetch": ("POST", "/o/r.git/git-upload-pack", None, []),
}


@pytest.mark.parametrize(("method", "path", "body", "expected"), REST.values(), ids=REST.keys())
def test_what_a_request_of_rest_does_is_known(method: str, path: str, body: Any, expected: list[Any]) -> None:
    assert seen(touches_of_request(method, path, body, EndpointKind.GITHUB)) == expected


def test_the_operation_is_named_as_the_documentation_does() -> None:
    found = touches_of_request("PUT", "/repos/o/r/pulls/1/merge", None, EndpointKind.GITHUB)
    assert [touch.tool for touch in found] == ["PUT /repos/{owner}/{repo}/pulls/{number}/merge"]


COMMIT = {
    "branch": {"repositoryNameWithOwner": "o/r", "branchName": "refs/heads/main"},
    "fileChanges": {"additions": [{"path": "a", "contents": "x"}], "deletions": [{"path": "infra/b"}]},
}
COMMITTED = [(PUSH, "a", "o/r", "main"), (PUSH, "infra/b", "o/r", "main")]
GRAPHQL = {
    "merge": ("mutation { mergePullRequest(input: {pullRequestId: 1}) { x } }", {}, [(MERGE, None, None, None)]),
    "alias": ("mutation { addStar: mergePullRequest(input: {}) { x } }", {}, [(MERGE, None, None, None)]),
    "comment": ("mutation {#\nmergePullRequest(input:{}){x}}", {}, [(MERGE, None, None, None)]),
    "fragment": (
        "mutation { ...F } fragment F on Mutation { enqueuePullRequest { x } }",
        {},
        [(MERGE, None, None, None)],
    ),
    "second operation": ("query Q { x } mutation M { deleteRef(input: $i) { x } }", {}, [(PUSH, None, None, None)]),
    "auto merge": ("mutation { enablePullRequestAutoMerge { x } }", {}, [(MERGE, None, None, None)]),
    "merge of branches": ('mutation { mergeBranch(input: {base: "main"}) { x } }', {}, [(MERGE, None, None, "main")]),
    "commit": ("mutation($i: I!) { createCommitOnBranch(input: $i) { x } }", {"i": COMMIT}, COMMITTED),
    "commit, written out": (
        (
            'mutation { createCommitOnBranch(input: {branch: {repositoryNameWithOwner: "o/r", branchName: "main"},'
            ' fileChanges: {additions: [{path: "a"}], deletions: {path: $p}}}) { x } }'
        ),
        {"p": "infra/b"},
        COMMITTED,
    ),
    "commit by default": (
        'mutation($f: C = {additions: [{path: "infra/x"}]}) { createCommitOnBranch(input: {fileChanges: $f}) { x } }',
        {},
        [(PUSH, "infra/x", None, None)],
    ),
    "commit of what is not said": (
        "mutation { createCommitOnBranch(input: $i) { x } }",
        {},
        [(PUSH, None, None, None)],
    ),
    "new ref": ('mutation { createRef(input: {name: "refs/heads/b"}) { x } }', {}, [(PUSH, None, None, "b")]),
    "refs": (
        'mutation { updateRefs(input: {refUpdates: [{name: "refs/heads/a"}, {name: $x}]}) { x } }',
        {},
        [(PUSH, None, None, "a"), (PUSH, None, None, None)],
    ),
    "star": ("mutation { addStar(input: {}) { mergePullRequests } }", {}, []),
    "query": ("{ mergePullRequest }", {}, []),
    "unreadable": ("mutation { mergePullRequest(", {}, [(act, None, None, None) for act in (MERGE, PUSH, DISPATCH)]),
    "unreadable, and no mutation": ("{ viewer", {}, []),
}


@pytest.mark.parametrize(("document", "variables", "expected"), GRAPHQL.values(), ids=GRAPHQL.keys())
def test_what_a_mutation_does_is_known(document: str, variables: dict[str, Any], expected: list[Any]) -> None:
    body = {"query": document, "variables": variables}
    assert seen(touches_of_request("POST", "/graphql", body, EndpointKind.GRAPHQL)) == expected
    assert seen(touches_of_request("POST", "/graphql", [body], EndpointKind.GRAPHQL)) == expected


def test_a_stored_document_may_do_anything() -> None:
    body = {"extensions": {"persistedQuery": {"sha256Hash": "x"}}}
    assert {one.act for one in touches_of_request("POST", "/graphql", body, EndpointKind.GRAPHQL)} == {
        MERGE,
        PUSH,
        DISPATCH,
    }


def call(name: Any, arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def deep() -> Any:
    value: Any = "x"
    for _ in range(2000):
        value = [value]
    return {"a": value}


MCP = {
    "merge": (call("merge_pull_request", {"owner": "o", "repo": "r"}), [(MERGE, None, "o/r", None)]),
    "push": (
        [call("push_files", {"owner": "o", "repo": "r", "branch": "b", "files": [{"path": "infra/x"}]})],
        [(PUSH, "infra/x", "o/r", "b")],
    ),
    "edit": (call("frob", {"path": "infra/x"}), [(Act.EDIT, "infra/x", None, None)]),
    "read": (call("get_file_contents", {"path": "infra/x"}), []),
    "no arguments": (call("merge_pull_request", None), [(MERGE, None, None, None)]),
    "arguments that are none": (call("frob", "infra/x"), [(Act.EDIT, None, None, None)]),
    "too deep": (call("frob", deep()), [(Act.EDIT, None, None, None)]),
    "no name": (call(5, {}), [(Act.EDIT, None, None, None)]),
    "list": ({"method": "tools/list"}, []),
    "several": ([{"method": "ping"}, call("create_branch", {})], [(PUSH, None, None, None)]),
    "nothing": (None, []),
}


@pytest.mark.parametrize(("body", "expected"), MCP.values(), ids=MCP.keys())
def test_what_a_call_of_mcp_does_is_known(body: Any, expected: list[Any]) -> None:
    assert seen(touches_of_request("POST", "/mcp/", body, EndpointKind.MCP)) == expected


@pytest.mark.parametrize("kind", [EndpointKind.CHAT, EndpointKind.MESSAGES, EndpointKind.RESPONSES])
def test_a_prompt_does_nothing(kind: EndpointKind) -> None:
    assert touches_of_request("POST", "/repos/o/r/pulls/1/merge", call("push_files", {}), kind) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["query", "variables", "method", "params", "name", "arguments", "tree", "path", "branch"]),
            inner,
        )
    ),
    max_leaves=15,
)
PATHS = st.sampled_from([row[1] for row in REST.values()]) | st.text()


@given(st.sampled_from(["GET", "PUT", "POST"]), PATHS, JSON, st.sampled_from(EndpointKind))
def test_no_request_makes_it_raise(method: str, path: str, body: Any, kind: EndpointKind) -> None:
    found = touches_of_request(method, path, body, kind)
    assert len(found) == len(set(found))
