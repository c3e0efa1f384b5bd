from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.conversation import Answer, Prompt, Usage
from extproc.dialect.embeddings import EmbeddingsDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect

DIALECT: Dialect = EmbeddingsDialect()

CHUNKS = {"embed": True, "path": "a.py", "content": "x = 1", "local_hashes": []}
SEARCH = {"scoping_query": "repo:acme/app", "prompt": "where is x set?", "limit": 10}


@pytest.mark.parametrize(
    ("body", "model", "messages"),
    [
        (
            {"input": ["a", "b"], "model": "text-embedding-3-small", "dimensions": 512},
            "text-embedding-3-small",
            ["a", "b"],
        ),
        ({"input": "a", "model": "m"}, "m", ["a"]),
        ({"inputs": ["a"], "embedding_model": "metis-1024"}, "metis-1024", ["a"]),
        ({"input": "a", "inputs": ["b"]}, None, ["a", "b"]),
        ({"input": [], "model": "m"}, "m", [{"input": [], "model": "m"}]),
        (CHUNKS, None, [CHUNKS]),
        (SEARCH, None, [SEARCH]),
    ],
)
def test_the_inputs_are_the_messages(body: dict[str, Any], model: str | None, messages: list[Any]) -> None:
    assert DIALECT.parse_request(json.dumps(body).encode()) == Prompt(model, messages, [], stream=False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body: expected a JSON object"),
        (b'["SECRET"]', "the body: expected a JSON object"),
        (b'{"model":5}', "model: expected a non-empty string"),
        (b'{"embedding_model":""}', "embedding_model: expected a non-empty string"),
        (b'{"model":"a","embedding_model":"b"}', "model and embedding_model: expected one of them, or the same model"),
        (b'{"Model":"a"}', "model: expected the name in lower case"),
    ],
)
def test_a_bad_request_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("body", "model", "usage"),
    [
        ({"model": "m", "data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}, "m", 3),
        ({"embedding_model": "metis", "embeddings": [{"embedding": [0.1]}]}, "metis", None),
        ({"chunks": [], "model": 5, "usage": {"prompt_tokens": True}}, None, None),
        ({"usage": {"prompt_tokens": -1}}, None, None),
        ({}, None, None),
    ],
)
def test_an_answer_has_model_and_usage(body: dict[str, Any], model: str | None, usage: int | None) -> None:
    expected = Answer(model, [], None if usage is None else Usage(usage, 0), complete=True)
    assert DIALECT.parse_answer(json.dumps(body).encode()) == expected


@pytest.mark.parametrize("body", [b"[]", b"", b"x"])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        DIALECT.parse_answer(body)


def test_a_vector_in_base64_is_opaque() -> None:
    assert "embedding" in DIALECT.opaque
