"""The GitHub API: REST at any path, and GraphQL at `/graphql`.

Sources: GitHub REST API documentation; GraphQL over HTTP, "Request Parameters".
"""

from __future__ import annotations

from typing import Final

import msgspec

from extproc.conversation import Prompt
from extproc.dialect.json_api import JsonDialect, read_tree
from extproc.dialect.port import BadRequest
from extproc.errors import Refusal

_GRAPHQL_NAMES: Final = frozenset({"query", "variables", "extensions"})


class GitHubDialect(JsonDialect):
    """Implement `Dialect` for GitHub's REST API: JSON or nothing, both ways."""

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal in the form of GitHub's own client errors, whose `message` its clients show."""
        error = {"message": refusal.message, "code": refusal.code.value, "decision_id": decision_id}
        return msgspec.json.encode(error)


class GraphqlDialect(GitHubDialect):
    """Implement `Dialect` for GitHub's GraphQL API, which refuses whole requests in the form of REST."""

    def parse_request(self, body: bytes) -> Prompt:
        """Return the operation with its variables as the only message; raises `BadRequest`."""
        tree = read_tree(body, _GRAPHQL_NAMES)
        if not isinstance(tree, dict):
            raise BadRequest("the body: expected a JSON object")
        if not (isinstance(tree.get("query"), str) and tree["query"]):
            raise BadRequest("query: expected a non-empty string")
        if not isinstance(tree.get("variables"), dict | None):
            raise BadRequest("variables: expected an object or null")
        if not isinstance(tree.get("operationName"), str | None):
            raise BadRequest("operationName: expected a string or null")
        return Prompt(None, [tree], [], stream=False)
