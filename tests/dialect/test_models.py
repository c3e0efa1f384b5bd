from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.models import ModelsDialect, drop_models
from extproc.dialect.port import Dialect
from extproc.endpoint import EndpointKind

DIALECT: Dialect = ModelsDialect()


def amended(*endpoints: Any) -> Any:
    tree: Any = {"data": [{"id": "a"}, {"id": "b", "supported_endpoints": list(endpoints)}]}
    changed = DIALECT.amend(tree)
    assert changed == (tree["data"][1]["supported_endpoints"] != list(endpoints))
    return tree["data"][1]["supported_endpoints"]


def test_web_sockets_are_taken_out_of_the_endpoints_of_every_model() -> None:
    assert amended("/responses", "ws:/responses") == ["/responses"]
    assert amended("ws:/responses", "/chat/completions", "WSS://elsewhere/responses") == ["/chat/completions"]


@pytest.mark.parametrize("endpoints", [[], ["/responses"], ["/v1/messages", "/chat/completions"], [None, 5, {}]])
def test_other_endpoints_stay_as_they_are(endpoints: list[Any]) -> None:
    assert amended(*endpoints) == endpoints


def test_a_model_with_nothing_but_a_web_socket_keeps_its_path() -> None:
    assert amended("ws:/responses") == ["/responses"]
    assert amended("wss://elsewhere/responses") == []


def test_they_are_found_wherever_they_are() -> None:
    tree = {"supported_endpoints": "ws:/responses", "models": [[{"supported_endpoints": ["/a", "ws:/b"]}]]}
    assert DIALECT.amend(tree)
    assert tree == {"supported_endpoints": ["/responses"], "models": [[{"supported_endpoints": ["/a"]}]]}


@pytest.mark.parametrize("tree", [None, [], {}, 5, "ws:/responses", {"supported_endpoints": None}])
def test_what_is_no_list_of_models_stays_as_it_is(tree: Any) -> None:
    assert not DIALECT.amend(tree)


def test_a_deep_tree_is_looked_through() -> None:
    tree: Any = {"supported_endpoints": ["ws:/a", "/b"]}
    for _ in range(5000):
        tree = [tree]
    assert DIALECT.amend(tree)


def test_the_token_of_a_session_is_opaque() -> None:
    assert "session_token" in DIALECT.opaque


# --- models that policy denies ---------------------------------------------------------------------------------------


def no_claude(model: str, _endpoints: frozenset[EndpointKind]) -> bool:
    return not model.startswith("claude")


def nothing(_model: str, _endpoints: frozenset[EndpointKind]) -> bool:
    return False


def test_models_that_are_denied_are_taken_out_and_the_others_stay_as_they_are() -> None:
    gpt: dict[str, Any] = {"id": "gpt-5", "supported_endpoints": ["/responses", "ws:/responses"], "x": {"y": [1]}}
    tree = {"object": "list", "data": [{"id": "claude-4"}, gpt, {"id": "claude-5"}], "more": 1}
    before = copy.deepcopy(gpt)
    assert drop_models(tree, no_claude)
    assert tree == {"object": "list", "data": [before], "more": 1}


def test_a_bare_list_is_a_list_of_models() -> None:
    tree = [{"id": "claude-4"}, {"id": "gpt-5"}]
    assert drop_models(tree, no_claude)
    assert tree == [{"id": "gpt-5"}]


def test_nothing_is_changed_where_nothing_is_denied() -> None:
    tree = {"data": [{"id": "gpt-5"}, {"id": "o1"}]}
    assert not drop_models(tree, no_claude)
    assert tree == {"data": [{"id": "gpt-5"}, {"id": "o1"}]}


def test_a_list_may_become_empty() -> None:
    tree = {"data": [{"id": "gpt-5"}, {"id": "o1"}]}
    assert drop_models(tree, nothing)
    assert tree == {"data": []}


CHAT, RESPONSES, MESSAGES = EndpointKind.CHAT, EndpointKind.RESPONSES, EndpointKind.MESSAGES


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ({}, {CHAT}),
        ({"supported_endpoints": ["/chat/completions", "/responses", "/v1/messages"]}, {CHAT, RESPONSES, MESSAGES}),
        ({"supported_endpoints": ["/v1/messages"]}, {MESSAGES}),
        ({"supported_endpoints": "/responses"}, {RESPONSES}),
        ({"supported_endpoints": ["ws:/responses"]}, {RESPONSES}),
        ({"supported_endpoints": ["wss://elsewhere/responses"]}, {CHAT}),
        ({"supported_endpoints": ["/responses", "/batches", None, 5, ["/v1/messages"]]}, {RESPONSES}),
        ({"supported_endpoints": ["/embeddings", "/completions"]}, {EndpointKind.EMBEDDINGS, EndpointKind.COMPLETIONS}),
        ({"supported_endpoints": ["/batches"]}, {CHAT}),
        ({"supported_endpoints": []}, {CHAT}),
        ({"supported_endpoints": {"/responses": 1}}, {CHAT}),
        ({"capabilities": {"type": "chat"}}, {CHAT}),
        ({"capabilities": {"type": "embeddings"}}, {EndpointKind.EMBEDDINGS}),
        ({"capabilities": {"type": "completion"}}, {EndpointKind.COMPLETIONS}),
        ({"capabilities": {"type": "completion"}, "supported_endpoints": ["/responses"]}, {EndpointKind.COMPLETIONS}),
        ({"capabilities": {"type": ["embeddings"]}}, {CHAT}),
        ({"capabilities": ["type"]}, {CHAT}),
    ],
)
def test_a_model_is_asked_about_with_the_endpoints_it_supports(model: dict[str, Any], kinds: set[EndpointKind]) -> None:
    asked: list[tuple[str, set[EndpointKind]]] = []

    def keep(model_id: str, endpoints: frozenset[EndpointKind]) -> bool:
        asked.append((model_id, set(endpoints)))
        return False

    assert drop_models({"data": [{"id": "m", **model}]}, keep)
    assert asked == [("m", kinds)]


@pytest.mark.parametrize(
    "tree",
    [
        None,
        5,
        "gpt-5",
        {},
        {"data": None},
        {"data": {"id": "gpt-5"}},
        {"id": "gpt-5", "object": "model"},
        {"models": [{"id": "gpt-5"}]},
        {"data": ["gpt-5", None, [{"id": "gpt-5"}], {"name": "gpt-5"}, {"id": 5}, {"id": ["gpt-5"]}]},
        ["gpt-5", {}],
    ],
)
def test_what_is_no_model_of_a_list_stays(tree: Any) -> None:
    before = copy.deepcopy(tree)
    assert not drop_models(tree, nothing)
    assert tree == before


NAMES = st.sampled_from(
    ["data", "id", "supported_endpoints", "capabilities", "type", "embeddings", "ws:", "/responses"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


@given(JSON | st.lists(JSON).map(lambda data: {"data": data}))
def test_any_tree_is_looked_through(tree: Any) -> None:
    before = repr(tree)
    changed = drop_models(tree, nothing)
    assert changed is (repr(tree) != before)
    assert not drop_models(tree, nothing)
