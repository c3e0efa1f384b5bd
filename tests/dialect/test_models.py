from __future__ import annotations

from typing import Any

import pytest

from extproc.dialect.models import ModelsDialect
from extproc.dialect.port import Dialect

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
