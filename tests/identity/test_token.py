from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Code, Refused
from extproc.identity.issuers import oidc
from extproc.identity.token import check_claims, parse

ISSUER = oidc("https://idp.example", audiences=["gateway", "other"], leeway_seconds=60)
NOW = 1_800_000_000.0


def part(value: object) -> str:
    raw = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(raw.encode(errors="surrogatepass")).decode().rstrip("=")


def token(header: object, payload: object = None) -> str:
    return f"{part(header)}.{part({'iss': ISSUER.url} if payload is None else payload)}.c2ln"


def parse_code(text: str) -> Code:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert caught.value.refusal.status == 401
    return caught.value.refusal.code


def claims_code(**claims: object) -> Code:
    with pytest.raises(Refused) as caught:
        check_claims(ISSUER, {"exp": NOW + 10, "aud": "gateway"} | claims, NOW)
    return caught.value.refusal.code


def test_a_sound_token_tells_its_algorithm_key_and_issuer() -> None:
    found = parse(token({"alg": "ES256", "kid": "k", "typ": "at+jwt"}, {"iss": "https://idp.example", "sub": "alice"}))
    assert (found.algorithm, found.key_id, found.issuer) == ("ES256", "k", "https://idp.example")
    assert found.claims["sub"] == "alice"


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "HS256", "HS512", "", None, 7, ["RS256"], "ES256K", "dir"])
def test_an_algorithm_outside_the_asymmetric_ones_is_refused_as_such(alg: object) -> None:
    assert parse_code(token({"alg": alg})) is Code.IDENTITY_ALGORITHM
    assert parse_code(token({})) is Code.IDENTITY_ALGORITHM


def test_an_unsigned_token_is_refused_for_its_algorithm() -> None:
    assert parse_code(f"{part({'alg': 'none'})}.{part({'iss': ISSUER.url})}.") is Code.IDENTITY_ALGORITHM


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256", "crit": ["exp"], "exp": 1},
        {"alg": "RS256", "crit": []},
        {"alg": "RS256", "b64": False},
        {"alg": "RS256", "kid": 7},
        {"alg": "RS256", "kid": ["k"]},
        {"alg": "RS256", "typ": "logout+jwt"},
        {"alg": "RS256", "typ": "dpop+jwt"},
        {"alg": "RS256", "typ": 1},
        '{"alg":"none","alg":"RS256"}',
        ["RS256"],
        "RS256",
        "{",
        "\ud800",
        "[" * 5000,
        '{"alg":"RS256","x":' + "9" * 5000 + "}",
    ],
)
def test_a_header_that_could_be_read_in_two_ways_is_malformed(header: object) -> None:
    assert parse_code(token(header)) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        '{"iss":"https://evil.example","iss":"https://idp.example"}',
        '{"iss":"https://idp.example","x":{"a":1,"a":2}}',
        '{"iss":"https://idp.example","exp":NaN}',
        ["https://idp.example"],
        '"text"',
        "null",
        "1",
    ],
)
def test_a_payload_with_repeated_names_or_that_is_no_object_is_malformed(payload: object) -> None:
    assert parse_code(token({"alg": "RS256"}, payload)) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "a.b.c\n", "ä.b.c", "e30.e30.e30=", "A.e30.e30"])
def test_what_is_not_three_base64url_parts_is_malformed(text: str) -> None:
    assert parse_code(text) is Code.IDENTITY_MALFORMED


def test_a_huge_token_is_refused_before_it_is_read() -> None:
    assert parse_code(token({"alg": "RS256"}, {"iss": ISSUER.url, "x": "y" * 20_000})) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("payload", [{}, {"iss": None}, {"iss": ["https://idp.example"]}, {"iss": 1}])
def test_a_token_must_name_its_issuer(payload: object) -> None:
    assert parse_code(token({"alg": "RS256"}, payload)) is Code.IDENTITY_ISSUER


@given(st.text() | st.builds("{}.{}.{}".format, *[st.text(alphabet="ABCDeyJ019_-{}")] * 3))
def test_parsing_anything_ends_in_a_token_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Refused):
        parse(text)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = scalars | st.lists(scalars) | st.dictionaries(st.text(), scalars)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("exp", "nbf", "iat", "aud"), json_values)))
def test_checking_any_claims_ends_in_an_expiry_or_a_refusal(claims: dict[str, object]) -> None:
    try:
        expiry = check_claims(ISSUER, claims, NOW)
    except Refused:
        return
    assert expiry > NOW - ISSUER.leeway_seconds


def test_a_token_is_good_until_its_expiry_plus_the_leeway_and_not_a_second_longer() -> None:
    claims = {"exp": NOW, "aud": "gateway"}
    assert check_claims(ISSUER, claims, NOW + 59.9) == NOW
    with pytest.raises(Refused) as caught:
        check_claims(ISSUER, claims, NOW + 60)
    assert caught.value.refusal.code is Code.IDENTITY_EXPIRED


@pytest.mark.parametrize(
    ("seconds", "text"), [(61, "1 minute"), (35 * 60 + 1, "35 minutes"), (7200, "2 hours"), (90_000, "1 day")]
)
def test_the_message_says_how_long_ago_the_token_expired(seconds: int, text: str) -> None:
    with pytest.raises(Refused) as caught:
        check_claims(ISSUER, {"exp": NOW - seconds, "aud": "gateway"}, NOW)
    assert caught.value.refusal.message == f"The token expired {text} ago; run `extproc login`."


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_the_future_is_not_yet_valid_beyond_the_leeway(name: str) -> None:
    assert check_claims(ISSUER, {"exp": NOW + 900, "aud": "gateway", name: NOW + 60}, NOW) == NOW + 900
    assert claims_code(**{name: NOW + 61}) is Code.IDENTITY_NOT_YET_VALID


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1900000000", True, [1], float("inf"), float("nan"), 10**400, -(10**400)])
def test_a_time_that_is_no_number_of_seconds_is_refused(name: str, value: object) -> None:
    assert claims_code(**{name: value}) is Code.IDENTITY_CLAIMS


def test_a_token_that_never_expires_is_refused() -> None:
    assert claims_code(exp=None) is Code.IDENTITY_CLAIMS


@pytest.mark.parametrize("audience", ["gateway", "other", ["else", "gateway"]])
def test_any_of_our_audiences_will_do(audience: object) -> None:
    assert check_claims(ISSUER, {"exp": NOW + 1, "aud": audience}, NOW) == NOW + 1


@pytest.mark.parametrize(
    "audience", ["Gateway", "gateway/", "gate", "", [], ["else"], None, 7, ["gateway", 7], {"gateway": 1}]
)
def test_another_audience_is_refused(audience: object) -> None:
    assert claims_code(aud=audience) is Code.IDENTITY_AUDIENCE
