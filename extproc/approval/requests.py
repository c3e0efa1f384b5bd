"""Say what a request of a client would do at GitHub: merge, push or dispatch, by REST, GraphQL, MCP or git. Pure.

Sources: GitHub REST API documentation, version 2022-11-28; GitHub GraphQL API, "Mutations"; Model Context Protocol
2025-11-25, "Tools"; Git, "http-protocol".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from extproc.approval.graphql import Unreadable, mutated
from extproc.approval.tools import touches_of
from extproc.approval.touch import Act, Touch
from extproc.conversation import ToolCall
from extproc.endpoint import EndpointKind

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_TOUCHES: Final = frozenset(
    {EndpointKind.CHAT, EndpointKind.COMPLETIONS, EndpointKind.RESPONSES, EndpointKind.MESSAGES}
    | {EndpointKind.EMBEDDINGS, EndpointKind.MODELS, EndpointKind.AGENTS}
)

# A repository has a second path at GitHub, by its number.
_REPOSITORY: Final = re.compile(r"/repos/([^/]+/[^/]+)(/.*)?|/repositories/[0-9]+(/.*)?", re.IGNORECASE | re.DOTALL)
_GIT_PUSH: Final = re.compile(r"/([^/]+/[^/]+?)(?:\.git)?/git-receive-pack", re.IGNORECASE | re.DOTALL)

# What follows the repository in the path; any method that is not safe (GitHub takes POST for PATCH). `branch` is in
# the path, or under the name in the third column in the body. A release makes a tag, so it is a push.
_REST: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), act, branch, shown)
    for pattern, act, branch, shown in (
        (r"/pulls/[^/]+/merge", Act.MERGE, None, "/pulls/{number}/merge"),
        (r"/pulls/[^/]+/update-branch", Act.PUSH, None, "/pulls/{number}/update-branch"),
        (r"/merges", Act.MERGE, "base", "/merges"),
        (r"/merge-upstream", Act.PUSH, "branch", "/merge-upstream"),
        (r"/contents(?:/(?P<path>.*))?", Act.PUSH, "branch", "/contents/{path}"),
        (r"/git/refs?/heads/(?P<branch>.+)", Act.PUSH, None, "/git/refs/{ref}"),
        (r"/git/refs", Act.PUSH, "ref", "/git/refs"),
        (r"/git/trees", Act.PUSH, None, "/git/trees"),
        (r"/git(?:/.*)?", Act.PUSH, None, "/git"),
        (r"/branches/(?P<branch>.+?)/(?:rename|protection)(?:/.*)?", Act.PUSH, None, "/branches/{branch}"),
        (r"/actions/workflows/[^/]+/dispatches", Act.DISPATCH, "ref", "/actions/workflows/{id}/dispatches"),
        (r"/dispatches", Act.DISPATCH, None, "/dispatches"),
        (r"/actions/(?:runs|jobs)/[^/]+/(?:rerun.*|approve)", Act.DISPATCH, None, "/actions/runs/{id}"),
        (r"/actions/runs/[^/]+/(?:pending|deployment)_.*", Act.DISPATCH, None, "/actions/runs/{id}"),
        (r"/deployments", Act.DISPATCH, "ref", "/deployments"),
        (r"/releases(?:/[^/]+)?", Act.PUSH, None, "/releases"),
        (r"/rulesets(?:/.*)?", Act.PUSH, None, "/rulesets"),
        (r"/code-scanning/alerts/[^/]+/autofix/commits", Act.PUSH, "target_ref", "/code-scanning/alerts"),
        (r"/import(?:/.*)?|/transfer", Act.PUSH, None, "/transfer"),
    )
)

_MUTATIONS: Final[Mapping[str, Act]] = {
    name: act
    for act, names in (
        (Act.MERGE, "mergePullRequest enablePullRequestAutoMerge enqueuePullRequest mergeBranch"),
        (Act.PUSH, "createCommitOnBranch createRef updateRef updateRefs deleteRef updatePullRequestBranch"),
        (Act.PUSH, "revertPullRequest createLinkedBranch createBranchProtectionRule updateBranchProtectionRule"),
        (Act.PUSH, "deleteBranchProtectionRule createRepositoryRuleset updateRepositoryRuleset"),
        (Act.PUSH, "deleteRepositoryRuleset"),
        (Act.DISPATCH, "approveDeployments createDeployment rerequestCheckSuite rerequestCheckRun"),
    )
    for name in names.split()
}


def touches_of_request(method: str, path: str, body: Any, kind: EndpointKind) -> list[Touch]:  # noqa: ANN401 - JSON
    """Return what a request would do, each thing once; nothing where it only reads.

    `path` is as received, with or without its query; `body` is the decoded JSON, or None. What cannot be understood may
    do everything that such a request can do.
    """
    bare, _, query = path.partition("?")
    bare = re.sub(r"^/api/(?:v3|graphql)(?=/|\Z)", "", unquote(bare), flags=re.IGNORECASE).rstrip("/")
    if pushed := _GIT_PUSH.fullmatch(bare):
        return [] if method in _SAFE_METHODS else [Touch(Act.PUSH, "git-receive-pack", repository=_utf8(pushed[1]))]
    if kind in _NO_TOUCHES:
        return []
    if kind is EndpointKind.MCP:
        found = list(_of_mcp(body))
    elif kind is EndpointKind.GRAPHQL:
        found = [touch for one in (body if isinstance(body, list) else [body]) for touch in _of_graphql(one)]
    else:
        found = [] if method in _SAFE_METHODS else _of_rest(method, bare, query, body)
    return list(dict.fromkeys(found))


def _of_mcp(body: Any) -> Iterator[Touch]:  # noqa: ANN401 - decoded JSON
    for message in body if isinstance(body, list) else [body]:
        if isinstance(message, list):
            yield Touch(Act.EDIT, "tools/call")
        elif isinstance(message, dict) and message.get("method") == "tools/call":
            params = message.get("params")
            name = params.get("name") if isinstance(params, dict) else None
            if not isinstance(params, dict) or not isinstance(name, str):
                yield Touch(Act.EDIT, "tools/call")
            else:
                yield from touches_of(ToolCall("", _clean(name), _arguments(params.get("arguments"))))


def _arguments(value: Any) -> str:  # noqa: ANN401 - decoded JSON
    # What is no object of JSON goes on as broken JSON, which may mean anything.
    try:
        return json.dumps({} if value is None else value) if isinstance(value, dict | None) else "{"
    except (RecursionError, TypeError, ValueError):
        return "{"


def _of_rest(method: str, path: str, query: str, body: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    found = _REPOSITORY.fullmatch(path)
    if found is None:
        is_ruleset = re.fullmatch(r"/orgs/[^/]+/rulesets(?:/.*)?", path, re.IGNORECASE | re.DOTALL)
        return [Touch(Act.PUSH, f"{method} /orgs/{{org}}/rulesets")] if is_ruleset else []
    repository, rest = _utf8(found[1]), found[2] or found[3] or ""
    fields = body if isinstance(body, dict) else {}
    if not rest:
        # Another default branch, or none at all.
        changes = method == "DELETE" or not isinstance(body, dict) or not fields.keys().isdisjoint(_OF_REPOSITORY)
        return [Touch(Act.PUSH, f"{method} /repos/{{owner}}/{{repo}}", repository=repository)] if changes else []
    for pattern, act, named, shown in _REST:
        if row := pattern.fullmatch(rest):
            tool = f"{method} /repos/{{owner}}/{{repo}}{shown}"
            said = row.groupdict().get("branch") or (fields.get(named) if named else None)
            said = said or (parse_qs(query).get("branch", [None])[0] if shown.startswith("/contents") else None)
            branch = _branch(said)
            return [Touch(act, tool, path, repository, branch) for path in _rest_paths(row, shown, fields)]
    return []


_OF_REPOSITORY: Final = frozenset({"default_branch", "name", "archived"})


def _rest_paths(row: re.Match[str], shown: str, fields: dict[str, Any]) -> list[str | None]:
    if "path" in row.groupdict():
        return [_utf8(row["path"]) or None]
    if shown != "/git/trees":
        return [None]
    tree = fields.get("tree")
    entries = tree if isinstance(tree, list) else []
    paths = [entry.get("path") if isinstance(entry, dict) else None for entry in entries]
    return [_utf8(path) if isinstance(path, str) else None for path in paths] or [None]


def _of_graphql(body: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    document = body.get("query") if isinstance(body, dict) else None
    if not isinstance(document, str):
        # The server may know the document by its digest.
        return [Touch(act, "graphql") for act in (Act.MERGE, Act.PUSH, Act.DISPATCH)]
    variables = body.get("variables")
    try:
        fields = mutated(document, variables if isinstance(variables, dict) else {})
    except (Unreadable, RecursionError):
        acts = (Act.MERGE, Act.PUSH, Act.DISPATCH) if "mutation" in document else ()
        return [Touch(act, "mutation") for act in acts]
    return [
        touch
        for name, arguments in fields
        if name in _MUTATIONS
        for touch in _of_mutation(name, arguments.get("input"))
    ]


def _of_mutation(name: str, written: Any) -> list[Touch]:  # noqa: ANN401 - decoded JSON
    values = written if isinstance(written, dict) else {}
    act, tool = _MUTATIONS[name], f"mutation {name}"
    branch = values.get("branch")
    within = branch if isinstance(branch, dict) else {}
    repository = _text(within.get("repositoryNameWithOwner"))
    if name == "createCommitOnBranch":
        branch_name = _branch(within.get("branchName"))
        paths = list(_changed(values.get("fileChanges")))
        return [Touch(act, tool, path, repository, branch_name) for path in paths or [None]]
    if name == "updateRefs":
        updates = values.get("refUpdates")
        refs = [one.get("name") for one in updates if isinstance(one, dict)] if isinstance(updates, list) else []
        return [Touch(act, tool, branch=_branch(ref)) for ref in refs or [None]]
    said = {"createRef": "name", "mergeBranch": "base", "createLinkedBranch": "name"}.get(name)
    return [Touch(act, tool, branch=_branch(values.get(said)) if said else None)]


def _changed(changes: Any) -> Iterator[str | None]:  # noqa: ANN401 - decoded JSON
    groups = changes.values() if isinstance(changes, dict) else [None]
    for group in groups:
        for one in group if isinstance(group, list) else [group]:
            path = one.get("path") if isinstance(one, dict) else None
            yield _text(path)


def _branch(name: Any) -> str | None:  # noqa: ANN401 - decoded JSON
    text = _text(name)
    return text.removeprefix("refs/").removeprefix("heads/") if text else None


def _text(value: Any) -> str | None:  # noqa: ANN401 - decoded JSON
    return _clean(value) if isinstance(value, str) else None


def _utf8(text: str | None) -> str | None:
    return None if text is None else _clean(text)


def _clean(text: str) -> str:
    # Touches go into records, which are UTF-8.
    return text.encode("utf-8", "replace").decode()
