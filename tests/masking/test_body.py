from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.dialect.chat import ChatDialect
from extproc.masking.body import masked_json
from extproc.masking.finding import Direction
from tests.masking.running import OURS, TOKEN, masker

CHAT = ChatDialect()


def test_a_body_without_secrets_keeps_its_bytes() -> None:
    body = b' { "a" : ": x", "n": [1.0, 1E2, 12345678901234567890123], "e": "\\u0041\\/" } '
    assert masked_json(body, masker(), CHAT) == body


def test_a_secret_at_any_depth_and_in_names_is_masked_and_all_else_stays() -> None:
    tree = {"a": [{"b": f"x {TOKEN}", "n": 12345678901234567890123}], TOKEN: 1.5}
    out = json.loads(masked_json(json.dumps(tree).encode(), masker(), CHAT))
    assert out == {"a": [{"b": "x [MASKED:github-pat]", "n": 12345678901234567890123}], "[MASKED:github-pat]": 1.5}


@pytest.mark.parametrize("body", [f'{{"x":"{TOKEN}","x":1}}', f'[{{"x":"{TOKEN}","\\u0078":1}}]', f'"{TOKEN}"', TOKEN])
def test_what_is_read_in_two_ways_or_is_no_object_is_masked(body: str) -> None:
    assert TOKEN[4:].encode() not in masked_json(body.encode(), masker(), CHAT)


def test_a_finding_names_the_path_in_the_body() -> None:
    by = masker()
    masked_json(json.dumps({"messages": [{"content": TOKEN}]}).encode(), by, CHAT)
    masked_json(json.dumps(TOKEN).encode(), by, CHAT)
    assert [one.where for one in by.findings] == ["messages[0].content", "[0]"]


def test_the_gateways_own_credential_is_masked_even_where_ids_stand() -> None:
    out = json.loads(masked_json(json.dumps({"id": f"x {OURS}", "b": OURS}).encode(), masker(), CHAT))
    assert OURS not in json.dumps(out)


def test_logprobs_leave_an_answer_in_which_something_was_masked_and_a_prompt_keeps_them() -> None:
    choice = {"message": {"content": f"It is {TOKEN}"}, "logprobs": {"content": [{"token": "gh", "bytes": [103]}]}}
    body = json.dumps({"choices": [choice]}).encode()
    assert json.loads(masked_json(body, masker(), CHAT))["choices"][0]["logprobs"] is None
    prompt = json.loads(masked_json(body, masker(direction=Direction.PROMPT), CHAT))
    assert prompt["choices"][0]["logprobs"] == choice["logprobs"]


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_make_it_raise_and_clean_ones_pass(body: bytes) -> None:
    assert isinstance(masked_json(body, masker(), CHAT), bytes)
