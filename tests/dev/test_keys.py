from __future__ import annotations

import base64
import stat
import threading
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from extproc.dev.keys import SigningKey, load_or_create, mint
from extproc.errors import ConfigError


def test_the_key_file_is_made_once_readable_by_the_owner_only_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state" / "idp.pem"
    first = load_or_create(path)
    assert load_or_create(path).kid == first.kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert first.private.key_size == 2048


def test_processes_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    kids: list[str] = []
    threads = [threading.Thread(target=lambda: kids.append(load_or_create(tmp_path / "k").kid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kids) == 4
    assert len(set(kids)) == 1


def _elliptic_pem() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("content", [b"", b"not a key", _elliptic_pem()])
def test_a_file_that_is_no_rsa_key_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "idp.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"idp\.pem"):
        load_or_create(path)
    assert path.read_bytes() == content


def test_the_kid_is_the_rfc_7638_thumbprint() -> None:
    # The example of RFC 7638 section 3.1.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
        "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZH"
        "zu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEg"
        "U8awapJzKnqDKgw"
    )

    class _Public:
        def public_numbers(self) -> rsa.RSAPublicNumbers:
            n = int.from_bytes(base64.urlsafe_b64decode(modulus + "=="), "big")
            return rsa.RSAPublicNumbers(65537, n)

    class _Private:
        def public_key(self) -> _Public:
            return _Public()

    key = SigningKey(_Private())  # type: ignore[arg-type]  # the RFC publishes no private half
    assert key.kid == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert key.jwk()["n"] == modulus


def test_a_minted_token_verifies_against_the_jwk_and_has_the_claims_of_the_user(tmp_path: Path) -> None:
    key, now = load_or_create(tmp_path / "k"), time.time()
    token = mint(key, issuer="http://i", audience="gw", user="bob", groups=["a", "b"], now=now, lifetime_seconds=60)
    claims = jwt.decode(token, jwt.PyJWK(key.jwk()), ["RS256"], audience="gw", issuer="http://i")
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key.kid}
    assert claims.pop("jti")
    assert claims == {
        "iss": "http://i",
        "aud": "gw",
        "sub": "bob",
        "name": "Bob",
        "preferred_username": "bob",
        "groups": ["a", "b"],
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + 60,
    }


def test_extra_claims_win_and_every_token_has_its_own_id(tmp_path: Path) -> None:
    key = load_or_create(tmp_path / "k")

    def claims() -> dict[str, object]:
        token = mint(key, issuer="i", audience="a", user="u", groups=[], now=0, extra={"sub": "x", "nonce": "n"})
        return jwt.decode(token, options={"verify_signature": False})

    first, second = claims(), claims()
    assert (first["sub"], first["nonce"]) == ("x", "n")
    assert first["jti"] != second["jti"]


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    assert repr(load_or_create(tmp_path / "k")) == "SigningKey()"
