from __future__ import annotations

import json

import pytest

from extproc.conversation import Answer, Prompt
from extproc.dialect.github import GitHubDialect, GraphqlDialect
from extproc.dialect.port import BadRequest, Dialect
from extproc.errors import Code, Refusal

REST: Dialect = GitHubDialect()
GRAPHQL: Dialect = GraphqlDialect()
OPERATION = {"query": "query Me($n: Int) { viewer { login } }", "variables": {"n": 1}, "operationName": "Me"}


def test_the_body_of_a_write_is_kept_for_the_record() -> None:
    body = {"message": "change", "content": "eA==", "sha": "1" * 40}
    assert REST.parse_request(json.dumps(body).encode()) == Prompt(None, [body], [], stream=False)


def test_a_read_has_no_message() -> None:
    assert REST.parse_request(b"") == Prompt(None, [], [], stream=False)


@pytest.mark.parametrize("operation", [OPERATION, {"query": "{ a }"}, {"query": "{ a }", "variables": None}])
def test_a_graphql_operation_is_kept_with_its_variables(operation: dict[str, object]) -> None:
    assert GRAPHQL.parse_request(json.dumps(operation).encode()) == Prompt(None, [operation], [], stream=False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body: expected a JSON object"),
        (b'[{"query":"SECRET"}]', "the body: expected a JSON object"),
        (b"{}", "query: expected a non-empty string"),
        (b'{"query":["SECRET"]}', "query: expected a non-empty string"),
        (b'{"query":"{a}","variables":"SECRET"}', "variables: expected an object or null"),
        (b'{"query":"{a}","operationName":5}', "operationName: expected a string or null"),
        (b'{"query":"{a}","query":"{b}"}', "the body has a top-level field twice"),
        (b'{"query":"{a}","Query":"{b}"}', "query: expected the name in lower case"),
    ],
)
def test_a_bad_operation_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        GRAPHQL.parse_request(body)
    assert str(refused.value) == message


@pytest.mark.parametrize("dialect", [REST, GRAPHQL])
def test_an_answer_of_any_json_is_complete(dialect: Dialect) -> None:
    for body in (b"", b"[]", b'{"data":{"viewer":null},"errors":[{"message":"no"}]}', b"true"):
        assert dialect.parse_answer(body) == Answer(None, [], None, complete=True)


@pytest.mark.parametrize("dialect", [REST, GRAPHQL])
def test_a_refusal_has_the_message_where_github_clients_look(dialect: Dialect) -> None:
    body = dialect.error_body(Refusal(403, Code.POLICY_DENIED, "Not here."), "d1")
    assert json.loads(body) == {"message": "Not here.", "code": "policy.denied", "decision_id": "d1"}
