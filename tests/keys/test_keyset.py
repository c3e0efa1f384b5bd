from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from extproc.identity.issuers import ASYMMETRIC
from extproc.keys.keyset import KeySet

_RSA = rsa.generate_private_key(65537, 2048)
RSA: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(_RSA.public_key())) | {"kid": "rsa"}
RSA_PRIVATE: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(_RSA)) | {"kid": "rsa", "key_ops": ["verify"]}
_WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 — the key that must be refused
WEAK: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(_WEAK.public_key())) | {"kid": "weak"}
EC: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())) | {
    "kid": "ec"
}
ED: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key())) | {"kid": "ed"}
OCT: dict[str, Any] = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "oct"}
for jwk in (RSA, WEAK, EC, ED):
    jwk.pop("key_ops", None)


def keys(*jwks: object) -> KeySet:
    return KeySet({"keys": list(jwks)}, ASYMMETRIC)


def algorithms(jwk: dict[str, Any]) -> set[str]:
    found = keys(jwk)
    return {name for name in ASYMMETRIC | {"HS256", "none"} if found.find(jwk["kid"], name)}


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (EC, {"ES256"}),
        (ED, {"EdDSA"}),
        (RSA | {"alg": "RS256"}, {"RS256"}),
        (RSA | {"use": "sig"}, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (RSA | {"alg": "ES256"}, set()),
        (RSA | {"alg": "HS256"}, set()),
        (RSA | {"alg": ["RS256"]}, set()),
        (RSA | {"use": "enc"}, set()),
        (RSA | {"key_ops": ["encrypt"]}, set()),
        (RSA | {"key_ops": ["verify"], "alg": "RS256"}, {"RS256"}),
        (RSA | {"kty": "oct", "k": "c2VjcmV0"}, set()),
        (RSA | {"kty": ["RSA"]}, set()),
        (RSA | {"n": 7}, set()),
        (EC | {"crv": "P-384"}, set()),
        (EC | {"crv": "secp256k1"}, set()),
        (RSA_PRIVATE, set()),
        (WEAK, set()),
        (OCT, set()),
    ],
)
def test_a_key_serves_only_the_algorithms_of_its_type_and_its_own_restrictions(
    jwk: dict[str, Any], expected: set[str]
) -> None:
    assert algorithms(jwk) == expected


def test_a_key_serves_no_algorithm_its_issuer_may_not_use() -> None:
    found = KeySet({"keys": [RSA]}, ["RS256"])
    assert found.find("rsa", "RS256") is not None
    assert found.find("rsa", "PS256") is None


def test_a_token_without_key_id_is_only_served_where_there_is_no_choice() -> None:
    assert keys(RSA, EC).find(None, "RS256") is not None
    assert keys(RSA, RSA | {"kid": "second"}).find(None, "RS256") is None
    assert keys(RSA).find(None, "ES256") is None


def test_a_key_id_is_never_replaced_by_the_only_key_there_is() -> None:
    assert keys(RSA).find("other", "RS256") is None
    assert keys({name: value for name, value in RSA.items() if name != "kid"}).find("rsa", "RS256") is None


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": []}, {"keys": [None, 1, "x", OCT]}])
def test_a_set_without_usable_keys_is_empty(document: dict[str, object]) -> None:
    assert not KeySet(document, ASYMMETRIC)
    assert keys(RSA)


junk = (
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())
)


@given(st.sampled_from([RSA, EC, ED]), st.dictionaries(st.sampled_from([*RSA, *EC, *ED, "use", "alg", "d"]), junk))
def test_no_broken_key_breaks_the_set(jwk: dict[str, Any], changes: dict[str, object]) -> None:
    assert keys(jwk | changes, EC | {"kid": "sound"}).find("sound", "ES256") is not None
