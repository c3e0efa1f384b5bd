from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Code, Refusal
from extproc.identity.gateway_token import GatewayTokens
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.identity.token import MAX_TOKEN_BYTES
from extproc.secret import Secret

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"
GATEWAY_TOKEN = (
    GatewayTokens([bytes(32)]).mint(Principal("i", "n", "person", "i", "s"), 1_800_000_000, "id").token.reveal()
)
# As GitHub makes them, with a longer authenticator and nothing of ours.
GITHUBS = f"tid=0123;exp=1800000000;sku=copilot_for_business_seat;chat=1;8kp=1;ip=127.0.0.1;asn=AS0:{'ab' * 32}"
OTHER = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def code(answer: Secret | Refusal) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "token", "Token"])
def test_authorization_is_read_whatever_the_case_of_its_scheme(scheme: str) -> None:
    assert present([("authorization", f"{scheme} {JWT}")], path="/") == Secret(JWT)


@pytest.mark.parametrize("prefix", ["gho_", "ghu_", "ghs_", "github_pat_"])
def test_a_prefix_that_imitates_github_is_removed_once(prefix: str) -> None:
    assert present([("authorization", f"Bearer {prefix}{JWT}")], path="/") == Secret(JWT)
    assert present([("authorization", f"Bearer {prefix}{prefix}{JWT}")], path="/") == Secret(prefix + JWT)


@pytest.mark.parametrize("token", [JWT, GATEWAY_TOKEN])
def test_a_token_is_found_wherever_clients_put_one(token: str) -> None:
    for value in (f"Bearer {token}", f"token {token}", basic(f"x-access-token:{token}"), basic(f":gho_{token}")):
        assert present([("authorization", value)], path="/") == Secret(token)
    assert present([("x-gateway-authorization", f"Bearer {token}")], path="/") == Secret(token)
    assert present([("x-api-key", token)], path="/v1/messages") == Secret(token)
    for value in (f"Bearer {token}", basic(f"alice:{token}")):
        assert present([], path="/", connect_authorization=value) == Secret(token)


def test_the_connect_decides_before_every_header() -> None:
    headers = [("x-gateway-authorization", f"Bearer {OTHER}"), ("authorization", f"Bearer {OTHER}")]
    assert present(headers, path="/", connect_authorization=f"Bearer {JWT}") == Secret(JWT)
    assert present(headers, path="/", connect_authorization=basic(f"any user:gho_{JWT}")) == Secret(JWT)


def test_the_gateway_header_decides_before_authorization_and_authorization_before_the_api_key() -> None:
    api_key = ("x-api-key", OTHER)
    headers = [api_key, ("authorization", f"Bearer {OTHER}"), ("x-gateway-authorization", f"Bearer {JWT}")]
    assert present(headers, path="/v1/messages") == Secret(JWT)
    assert present([api_key, ("authorization", f"Bearer {JWT}")], path="/v1/messages") == Secret(JWT)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/messages", None),
        ("/v1/messages?beta=true", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/messages/batches", Code.IDENTITY_MISSING),
        ("/chat/completions", Code.IDENTITY_MISSING),
    ],
)
def test_an_api_key_is_a_source_only_where_the_messages_dialect_is_spoken(path: str, expected: Code | None) -> None:
    assert code(present([("x-api-key", JWT)], path=path)) == expected


@pytest.mark.parametrize(
    "bad", ["", "garbage", "Basic !!!!", basic("no-colon"), basic("user:not a jwt"), f"token {JWT}"]
)
def test_a_malformed_connect_credential_is_not_skipped_for_a_good_header(bad: str) -> None:
    headers = [("authorization", f"Bearer {JWT}")]
    assert code(present(headers, path="/", connect_authorization=bad)) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Bearer",
        "Bearer ",
        JWT,
        f"Basic {JWT}",
        basic(JWT),
        basic(f"{JWT}:"),
        basic(f"{JWT}:x-oauth-basic"),
        "Basic /w==",
        f"Bearer {JWT}, Bearer {OTHER}",
        f"Bearer {JWT} {OTHER}",
        f"Bearer {JWT}\n",
        "Bearer gho_0123456789abcdef",
        "Bearer tid=1;exp=2",
        f"Bearer {GITHUBS}",
        f"Bearer {GATEWAY_TOKEN}0",
        f"Bearer {GATEWAY_TOKEN.partition(':')[0]}",
        f"Bearer {GATEWAY_TOKEN};{JWT}",
        f"Bearer {JWT}.e30",
        "Bearer a..b",
        "Bearer a.b+.c",
    ],
)
@pytest.mark.parametrize("name", ["x-gateway-authorization", "authorization"])
def test_a_malformed_header_is_not_skipped_for_the_next_source(name: str, bad: str) -> None:
    assert code(present([(name, bad), ("x-api-key", JWT)], path="/v1/messages")) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("value", [f"token {JWT}", basic(f"user:{JWT}")])
def test_the_gateway_header_knows_only_the_bearer_scheme(value: str) -> None:
    assert code(present([("x-gateway-authorization", value)], path="/")) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("name", ["x-gateway-authorization", "authorization", "x-api-key"])
def test_a_repeated_header_is_ambiguous_even_with_equal_values(name: str) -> None:
    value = JWT if name == "x-api-key" else f"Bearer {JWT}"
    assert code(present([(name, value), (name, value)], path="/v1/messages")) is Code.IDENTITY_MALFORMED


def test_a_repeated_header_that_does_not_decide_does_no_harm() -> None:
    headers = [("authorization", "x"), ("authorization", "y"), ("x-gateway-authorization", f"Bearer {JWT}")]
    assert present(headers, path="/") == Secret(JWT)


def test_a_token_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    longest = "a.b." + "c" * (MAX_TOKEN_BYTES - 4)
    assert present([("authorization", f"Bearer {longest}")], path="/") == Secret(longest)
    assert code(present([("authorization", f"Bearer {longest}c")], path="/")) is Code.IDENTITY_MALFORMED


def test_nothing_presented_is_a_401_that_says_what_to_send() -> None:
    answer = present([("accept", "*/*")], path="/")
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.code) == (401, Code.IDENTITY_MISSING)
    assert "Authorization: Bearer" in answer.message
    assert "run `extproc login`" in answer.message


@pytest.mark.parametrize("value", ["Bearer gho_0123456789abcdef", f"Bearer {GITHUBS}", "Bearer", "Basic !!!!"])
def test_who_presents_something_else_is_told_to_sign_in(value: str) -> None:
    answer = present([("authorization", value)], path="/")
    assert isinstance(answer, Refusal)
    assert answer.message.endswith("run `extproc login`.")


names = st.sampled_from(["x-gateway-authorization", "authorization", "x-api-key", "accept"])
values = st.one_of(st.text(), st.builds("{} {}".format, st.sampled_from(["Bearer", "token", "Basic"]), st.text()))


@given(st.lists(st.tuples(names, values)), st.none() | values)
def test_whatever_is_sent_the_answer_is_a_compact_token_or_a_refusal_that_quotes_nothing(
    headers: list[tuple[str, str]], connect: str | None
) -> None:
    answer = present(headers, path="/v1/messages", connect_authorization=connect)
    if isinstance(answer, Refusal):
        assert answer.status == 401
        # The message depends on where the credential was, never on what it was.
        assert not any(value in answer.message for _, value in headers if len(value) > 20)
    else:
        assert answer.reveal().isascii()
        # No random text is a gateway's token.
        assert answer.reveal().count(".") == 2
