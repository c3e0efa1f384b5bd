from __future__ import annotations

import base64
import json
import pickle
import uuid
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Code, Refused
from extproc.identity import gateway_token
from extproc.identity.gateway_token import (
    LEEWAY_SECONDS,
    LIFETIME_SECONDS,
    REFRESH_IN_SECONDS,
    GatewayTokens,
    is_gateway_token,
)
from extproc.identity.principal import Principal
from extproc.identity.token import MAX_TOKEN_BYTES

NOW = 1_800_000_000.0
KEY, OTHER_KEY = bytes(range(32)), bytes(range(32, 64))
TOKENS = GatewayTokens([KEY])
ALICE = Principal(
    id="https://idp.example#alice",
    name="Alice Ängström",
    kind="person",
    issuer="https://idp.example",
    subject="alice",
    groups=frozenset({"developers", "approvers"}),
    roles=frozenset({"Gateway.User"}),
    claims={"azp": "cli"},
)
# Minted with KEY at NOW for ALICE: gateways of other releases that share the key must read it.
GOLDEN = (
    "tid=0123abcd;exp=1800001800;sku=copilot_for_business_seat;st=dotcom;ssc=1;chat=1;cit=1;malfil=1;edit"
    "or_preview_features=1;agent_mode=1;mcp=1;ccr=1;rt=0;8kp=1;gw=1.27mWQ6E71us66Q_xhrXDbZL5ambLBq0nCzScA"
    "7VowF1t6D4v5mxDzjGHngbXdFUxjHi8PNSbbOD2HVjJTyj--GAa-hCevgugvg1Tf4g7IBVS7qOod44sQab7H89DW_-oYAIKpoHei"
    "fcHaAjse72gXSMaK-CI-n5YdISPGA03qNVw87rNPZipGnopuxqgkDnvag_lxPZQEcgoFGP55CoPFgnUgGgnwtAUs7dabd2xlWFEB"
    "Dw8vqjo9_va0jvF:e059d0c21dc9c87d06ff237517bfab2d"
)

short = st.text(max_size=20)
principals = st.builds(
    Principal,
    id=short,
    name=short,
    kind=st.sampled_from(["person", "workload"]),
    issuer=short,
    subject=short,
    groups=st.frozensets(short, max_size=5),
    roles=st.frozensets(short, max_size=5),
    claims=st.dictionaries(short, short, max_size=5),
)


def mint(principal: Principal = ALICE, tokens: GatewayTokens = TOKENS, now: float = NOW) -> str:
    return tokens.mint(principal, now, "0123abcd").token.reveal()


def members_of(token: str) -> dict[str, str]:
    """Parse as the language server does (`parseToken`): what is before the colon, each member at its first `=`."""
    return dict(member.split("=", 1) for member in token.partition(":")[0].split(";"))


def refusal(token: str, *, tokens: GatewayTokens = TOKENS, now: float = NOW) -> Code:
    with pytest.raises(Refused) as caught:
        tokens.read(token, now)
    assert caught.value.refusal.status == 401
    assert len(str(caught.value)) < 200
    return caught.value.refusal.code


def sealed(packed: bytes, key: bytes = KEY) -> str:
    """Seal whatever one likes, as only who has the key can."""
    visible = "tid=t;exp=1;gw=1."
    raw = gateway_token._cipher(key).encrypt(packed, [visible.encode()])
    return f"{visible}{base64.urlsafe_b64encode(raw[16:]).decode().rstrip('=')}:{raw[:16].hex()}"


@given(principals, st.floats(0, 2**33))
def test_whoever_a_token_is_minted_for_is_who_is_read(principal: Principal, now: float) -> None:
    minted = TOKENS.mint(principal, now, "id")
    read = TOKENS.read(minted.token.reveal(), now)
    assert read.principal == principal
    assert read.expires_at == minted.expires_at == int(now) + LIFETIME_SECONDS
    assert is_gateway_token(minted.token.reveal())


def test_a_token_is_refreshed_well_before_it_expires() -> None:
    assert TOKENS.mint(ALICE, NOW, "id").refresh_in == REFRESH_IN_SECONDS
    # A client takes it to expire at now + refresh_in + 60, and asks for the next 300 s before at the latest.
    assert REFRESH_IN_SECONDS + 60 + LEEWAY_SECONDS < LIFETIME_SECONDS


def test_a_token_that_another_release_minted_is_read() -> None:
    assert TOKENS.read(GOLDEN, NOW).principal == ALICE


def test_clients_find_the_members_that_they_look_for() -> None:
    members = members_of(mint())
    assert members["tid"] == "0123abcd"
    assert members["exp"] == str(int(NOW) + LIFETIME_SECONDS)
    expected = {"sku": "copilot_for_business_seat", "st": "dotcom"} | dict.fromkeys(
        ("ssc", "chat", "cit", "malfil", "editor_preview_features", "agent_mode", "mcp", "ccr", "8kp"), "1"
    )
    assert expected.items() <= members.items()


def test_clients_are_not_told_to_send_prompts_to_telemetry_nor_to_offer_models_of_others() -> None:
    members = members_of(mint())
    assert members["rt"] == "0"
    assert "client_byok" not in members


@given(principals)
def test_a_token_is_one_header_value_that_splits_into_members_in_one_way(principal: Principal) -> None:
    token = mint(principal)
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(' ,"\\')
    assert token.count(":") == 1
    assert all(member.count("=") == 1 for member in token.partition(":")[0].split(";"))


def test_nobody_is_named_in_a_token() -> None:
    token = mint()
    raw = base64.urlsafe_b64decode(members_of(token)["gw"].removeprefix("1.") + "==")
    for text in ("alice", "developers", "approvers", "idp.example"):
        assert text not in token
        assert text.encode() not in raw


def test_what_clients_show_of_a_token_is_no_token() -> None:
    shown, _, mac = mint().partition(":")
    assert refusal(shown) is Code.IDENTITY_MALFORMED
    assert refusal(f"{shown}:") is Code.IDENTITY_MALFORMED
    assert refusal(f"{shown}:{'0' * len(mac)}") is Code.IDENTITY_SIGNATURE


def test_two_tokens_of_one_second_have_nothing_sealed_in_common() -> None:
    first, second = (TOKENS.mint(ALICE, NOW, name).token.reveal() for name in ("a", "b"))
    assert members_of(first)["gw"] != members_of(second)["gw"]


@given(st.data())
def test_a_token_of_which_any_byte_is_another_is_refused(data: st.DataObject) -> None:
    token = mint()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="latin-1").filter(lambda one: one != token[at]))
    assert refusal(token[:at] + other + token[at + 1 :]) in {Code.IDENTITY_MALFORMED, Code.IDENTITY_SIGNATURE}


def test_no_other_spelling_of_the_same_bytes_is_a_token() -> None:
    # Of these lengths of what is sealed, some end in bits that stand for nothing, which base64 decoders ignore.
    for length in range(8):
        head, mac = mint(Principal("i", "n" * length, "person", "i", "s")).split(":")
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            if last != head[-1]:
                assert refusal(f"{head[:-1]}{last}:{mac}") in {Code.IDENTITY_MALFORMED, Code.IDENTITY_SIGNATURE}
        assert refusal(f"{head}:{mac.upper()}") is Code.IDENTITY_MALFORMED


@given(st.integers(0, len(GOLDEN) - 1))
def test_a_truncated_token_is_refused(length: int) -> None:
    for part in (GOLDEN[:length], GOLDEN[len(GOLDEN) - length :]):
        assert refusal(part) in {Code.IDENTITY_MALFORMED, Code.IDENTITY_SIGNATURE}


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token.replace("tid=0123abcd", "tid=someoneelse"),
        lambda token: token.replace(";exp=1", ";exp=9"),
        lambda token: token.replace("rt=0", "rt=1"),
        lambda token: token.replace("mcp=1;", ""),
        lambda token: token.replace(";gw=", ";client_byok=1;gw="),
    ],
)
def test_no_member_can_be_changed_added_or_removed(change: Callable[[str], str]) -> None:
    assert change(mint()) != mint()
    assert refusal(change(mint())) is Code.IDENTITY_SIGNATURE


def test_the_members_of_one_token_do_not_fit_what_another_has_sealed() -> None:
    first, second = mint(), TOKENS.mint(ALICE, NOW + 600, "other").token.reveal()
    assert refusal(first.split(";gw=")[0] + ";gw=" + second.split(";gw=")[1]) is Code.IDENTITY_SIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gho_0123456789abcdef",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln",
        f"tid=1;exp=2;sku=copilot_for_business_seat;8kp=1;ip=127.0.0.1;asn=AS0:{'ab' * 32}",
        f"tid=1;exp=2;gw=1.:{'00' * 16}",
        f"tid=1;exp=2;gw=2.AAAA:{'00' * 16}",
        f"tid=1;exp=2;gw=1.AAAA:{'00' * 16}\n",
        "tid=1;exp=2;gw=1.AAAA:" + "\u0660" * 32,
    ],
)
def test_what_is_not_of_the_form_is_malformed(text: str) -> None:
    assert not is_gateway_token(text)
    assert refusal(text) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("text", ["A", "AAAAA", "AB", "AAB"])
def test_what_is_not_base64url_of_bytes_is_malformed(text: str) -> None:
    assert refusal(f"tid=1;exp=2;gw=1.{text}:{'00' * 16}") is Code.IDENTITY_MALFORMED


@given(st.text() | st.from_regex(gateway_token._FORM, fullmatch=True))
def test_reading_anything_else_ends_in_a_refusal(text: str) -> None:
    assert refusal(text) in {Code.IDENTITY_MALFORMED, Code.IDENTITY_SIGNATURE}


def test_a_huge_text_is_refused_for_its_length() -> None:
    token = f"tid=1;exp=2;gw=1.{'A' * MAX_TOKEN_BYTES}:{'00' * 16}"
    assert not is_gateway_token(token)
    assert refusal(token) is Code.IDENTITY_MALFORMED


def test_a_token_of_a_gateway_with_another_key_is_refused() -> None:
    assert refusal(mint(tokens=GatewayTokens([OTHER_KEY]))) is Code.IDENTITY_SIGNATURE


def test_while_a_key_is_replaced_tokens_of_both_are_read_and_only_the_new_one_mints() -> None:
    rotating = GatewayTokens([OTHER_KEY, KEY])
    assert rotating.read(mint(), NOW).principal == ALICE
    assert rotating.read(mint(tokens=rotating), NOW).principal == ALICE
    assert refusal(mint(tokens=rotating)) is Code.IDENTITY_SIGNATURE
    assert GatewayTokens([OTHER_KEY]).read(mint(tokens=rotating), NOW).principal == ALICE


@pytest.mark.parametrize("keys", [[], [b""], [bytes(16)], [bytes(64)], [KEY, bytes(31)]])
def test_there_are_no_gateway_tokens_without_keys_of_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="a key of 32 bytes"):
        GatewayTokens(keys)


def test_a_token_is_good_until_it_expires_and_not_a_second_longer() -> None:
    token = mint()
    assert TOKENS.read(token, NOW + LIFETIME_SECONDS - 0.1).principal == ALICE
    assert refusal(token, now=NOW + LIFETIME_SECONDS) is Code.IDENTITY_EXPIRED
    with pytest.raises(Refused) as caught:
        TOKENS.read(token, NOW + LIFETIME_SECONDS + 120)
    assert caught.value.refusal.message == "The token expired 2 minutes ago; run `extproc login`."


def test_a_token_of_a_clock_that_is_ahead_is_good_within_the_leeway() -> None:
    token = mint()
    assert TOKENS.read(token, NOW - LEEWAY_SECONDS).principal == ALICE
    assert refusal(token, now=NOW - LEEWAY_SECONDS - 1) is Code.IDENTITY_NOT_YET_VALID


def test_a_principal_of_200_groups_fits_into_half_of_the_longest_token() -> None:
    groups = frozenset(
        str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for number in range(200)
    )
    crowded = Principal("i", "n", "person", "https://idp.example", "s", groups)
    token = mint(crowded)
    assert len(token) < MAX_TOKEN_BYTES / 2
    assert TOKENS.read(token, NOW).principal == crowded


@pytest.mark.parametrize("groups", [[str(uuid.uuid4()) for _ in range(2000)], ["x" * number for number in range(1000)]])
def test_groups_that_do_not_fit_are_told_and_no_token_is_minted(groups: list[str]) -> None:
    with pytest.raises(Refused) as caught:
        mint(Principal("i", "n", "person", "i", "s", frozenset(groups)))
    assert (caught.value.refusal.status, caught.value.refusal.code) == (403, Code.IDENTITY_GROUPS_UNAVAILABLE)


@pytest.mark.parametrize("token_id", ["", "a;exp=9", "a=b", "a:b", "a b", "a\n", "ä", "a" * 65])
def test_a_token_id_that_could_be_read_as_something_else_is_an_error(token_id: str) -> None:
    with pytest.raises(ValueError, match="a token id has"):
        TOKENS.mint(ALICE, NOW, token_id)


def plain(name: str = "Alice") -> bytes:
    alice = {"id": "i", "name": name, "kind": "person", "issuer": "i", "subject": "s"}
    return json.dumps({"issued_at": int(NOW), "expires_at": int(NOW) + 1, "principal": alice}).encode()


def test_something_sealed_that_grows_beyond_all_bounds_is_not_unpacked() -> None:
    assert TOKENS.read(sealed(zlib.compress(plain("x" * 1000))), NOW).principal.name == "x" * 1000
    assert refusal(sealed(zlib.compress(plain("x" * 5_000_000)))) is Code.IDENTITY_MALFORMED


@pytest.mark.parametrize(
    "packed",
    [
        b"not zlib",
        zlib.compress(b""),
        zlib.compress(b"[]"),
        zlib.compress(b"\xff"),
        zlib.compress(b'{"issued_at":1,"expires_at":2}'),
        zlib.compress(b'{"issued_at":1,"expires_at":"2","principal":{}}'),
        zlib.compress(plain()) + b"more",
        zlib.compress(plain())[:-1],
        zlib.compress(plain() + b"{}"),
        zlib.compress(plain().replace(b"person", b"admin")),
    ],
)
def test_what_another_release_may_seal_is_refused_and_not_guessed_at(packed: bytes) -> None:
    assert refusal(sealed(packed)) is Code.IDENTITY_MALFORMED


@given(st.binary(max_size=100))
def test_unpacking_anything_sealed_ends_in_a_refusal(raw: bytes) -> None:
    assert refusal(sealed(raw or b"x")) is Code.IDENTITY_MALFORMED
    assert refusal(sealed(zlib.compress(raw))) is Code.IDENTITY_MALFORMED


def test_a_minted_token_does_not_show_itself() -> None:
    minted = TOKENS.mint(ALICE, NOW, "id")
    assert minted.token.reveal() not in repr(minted)
    with pytest.raises(TypeError):
        pickle.dumps(minted)
