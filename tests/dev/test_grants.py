from __future__ import annotations

import pytest

from extproc.dev.grants import REFRESH_SECONDS, AuthorizationCodes, DeviceCodes, Grant, OAuthError, RefreshTokens, s256

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
ALICE = Grant("console", "alice", "openid", "nonce-1")
CALLBACK = "http://127.0.0.1:8088/callback"


def _issue(codes: AuthorizationCodes) -> str:
    return codes.issue(ALICE, redirect_uri=CALLBACK, challenge=s256(VERIFIER), now=100.0)


def _redeem(codes: AuthorizationCodes, code: str, now: float = 101.0, changed: dict[str, str] | None = None) -> Grant:
    arguments = {"client_id": "console", "redirect_uri": CALLBACK, "verifier": VERIFIER} | (changed or {})
    return codes.redeem(code, now=now, **arguments)


def test_s256_is_that_of_rfc_7636_appendix_b() -> None:
    assert s256(VERIFIER) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_code_is_good_once() -> None:
    codes = AuthorizationCodes()
    code = _issue(codes)
    assert _redeem(codes, code) == ALICE
    with pytest.raises(OAuthError, match="invalid_grant"):
        _redeem(codes, code)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "other"},
        {"redirect_uri": CALLBACK + "2"},
        {"verifier": VERIFIER[:-1] + "X"},
        {"verifier": "short"},
        {"verifier": VERIFIER[:-1] + "é"},
    ],
)
def test_a_wrong_redemption_is_refused_and_spends_the_code(changed: dict[str, str]) -> None:
    codes = AuthorizationCodes()
    code = _issue(codes)
    for attempt in (changed, {}):
        with pytest.raises(OAuthError, match="invalid_grant"):
            _redeem(codes, code, changed=attempt)


@pytest.mark.parametrize(("now", "good"), [(159.9, True), (160.0, False)])
def test_a_code_lives_60_seconds(now: float, good: bool) -> None:  # noqa: FBT001 - a table of cases
    codes = AuthorizationCodes()
    code = _issue(codes)
    if good:
        assert _redeem(codes, code, now) == ALICE
    else:
        with pytest.raises(OAuthError, match="invalid_grant"):
            _redeem(codes, code, now)


def test_outstanding_codes_are_bounded_and_expiry_makes_room() -> None:
    codes = AuthorizationCodes()
    for _ in range(1000):
        _issue(codes)
    with pytest.raises(OAuthError, match="temporarily_unavailable"):
        _issue(codes)
    assert codes.issue(ALICE, redirect_uri=CALLBACK, challenge=s256(VERIFIER), now=161.0)


def _poll(devices: DeviceCodes, device_code: str, now: float) -> str:
    try:
        return devices.redeem(device_code, client_id="cli", now=now).user
    except OAuthError as error:
        return error.error


def test_a_device_waits_until_somebody_signs_in_and_gets_its_grant_once() -> None:
    devices = DeviceCodes()
    device_code, user_code = devices.issue("cli", "openid", now=0.0)
    assert _poll(devices, device_code, 0.0) == "authorization_pending"
    devices.decide(user_code.lower().replace("-", " "), "alice", now=1.0)
    assert _poll(devices, device_code, 5.0) == "alice"
    assert _poll(devices, device_code, 10.0) == "invalid_grant"


def test_polling_too_fast_slows_down_by_five_seconds_each_time() -> None:
    devices = DeviceCodes()
    device_code, _ = devices.issue("cli", "openid", now=0.0)
    polls = [(0.0, "authorization_pending"), (4.9, "slow_down"), (14.8, "slow_down"), (29.8, "authorization_pending")]
    assert [(now, _poll(devices, device_code, now)) for now, _ in polls] == polls


def test_a_refused_sign_in_is_told_to_the_device() -> None:
    devices = DeviceCodes()
    device_code, user_code = devices.issue("cli", "openid", now=0.0)
    devices.decide(user_code, None, now=1.0)
    assert _poll(devices, device_code, 2.0) == "access_denied"


def test_a_device_code_expires_for_the_device_and_for_the_person() -> None:
    devices = DeviceCodes()
    device_code, user_code = devices.issue("cli", "openid", now=0.0)
    with pytest.raises(OAuthError, match="invalid_request"):
        devices.decide(user_code, "alice", now=600.0)
    devices.issue("cli", "openid", now=601.0)
    assert _poll(devices, device_code, 602.0) == "expired_token"


def test_a_user_code_is_decided_once() -> None:
    devices = DeviceCodes()
    _, user_code = devices.issue("cli", "openid", now=0.0)
    devices.decide(user_code, "alice", now=1.0)
    with pytest.raises(OAuthError, match="invalid_request"):
        devices.decide(user_code, "bob", now=2.0)


def test_another_client_cannot_redeem_a_device_code() -> None:
    devices = DeviceCodes()
    device_code, user_code = devices.issue("cli", "openid", now=0.0)
    devices.decide(user_code, "alice", now=1.0)
    with pytest.raises(OAuthError, match="invalid_grant"):
        devices.redeem(device_code, client_id="other", now=5.0)
    assert _poll(devices, device_code, 5.0) == "alice"


def _spend(tokens: RefreshTokens, token: str, *, client_id: str = "console", now: float = 1.0) -> str:
    grant, successor = tokens.redeem(token, client_id=client_id, now=now)
    assert grant == ALICE
    return successor


def test_each_refresh_token_is_good_once_and_names_the_next() -> None:
    tokens = RefreshTokens()
    seen = [tokens.issue(ALICE, now=0.0)]
    for _ in range(5):
        seen.append(_spend(tokens, seen[-1]))
    assert len(set(seen)) == 6


@pytest.mark.parametrize("age", [1, 2, 3])
def test_any_spent_refresh_token_ends_its_family_and_no_other(age: int) -> None:
    tokens = RefreshTokens()
    other, seen = tokens.issue(ALICE, now=0.0), [tokens.issue(ALICE, now=0.0)]
    for _ in range(3):
        seen.append(_spend(tokens, seen[-1]))
    with pytest.raises(OAuthError, match="used before"):
        _spend(tokens, seen[-1 - age])
    with pytest.raises(OAuthError, match="unknown, revoked or expired"):
        _spend(tokens, seen[-1])
    _spend(tokens, other)


def test_another_client_neither_uses_nor_ends_a_family() -> None:
    tokens = RefreshTokens()
    token = tokens.issue(ALICE, now=0.0)
    with pytest.raises(OAuthError, match="invalid_grant"):
        _spend(tokens, token, client_id="other")
    tokens.revoke(token, client_id="other")
    _spend(tokens, token)


def test_a_family_ends_after_twelve_hours_however_often_it_was_used() -> None:
    tokens = RefreshTokens()
    token = _spend(tokens, tokens.issue(ALICE, now=0.0), now=REFRESH_SECONDS - 1)
    with pytest.raises(OAuthError, match="expired"):
        _spend(tokens, token, now=REFRESH_SECONDS)


def test_families_are_bounded_and_their_end_makes_room() -> None:
    tokens = RefreshTokens()
    for _ in range(1000):
        tokens.issue(ALICE, now=0.0)
    with pytest.raises(OAuthError, match="temporarily_unavailable"):
        tokens.issue(ALICE, now=1.0)
    tokens.issue(ALICE, now=REFRESH_SECONDS)
