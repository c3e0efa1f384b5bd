"""Choose the usable signature keys of a JWK set (RFC 7517). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

# Which algorithms a key may serve, by `kty` and `crv` (RFC 7518 sections 3.4 and 6, RFC 8037). A key outside this
# table does not exist for us; `oct` above all, whose use would let the verifier's secret sign.
_ALGORITHMS_OF: Mapping[tuple[object, object], frozenset[str]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}

_MIN_RSA_BITS = 2048  # RFC 7518 section 3.3


class KeySet:
    """Hold public keys, each bound to the algorithms it may verify."""

    __slots__ = ("_by_algorithm", "_by_id")

    def __init__(self, document: Mapping[str, object], algorithms: Iterable[str]) -> None:
        """Take the signature keys of `document` that serve one of `algorithms`; all others are left out."""
        self._by_id: dict[tuple[str, str], PyJWK] = {}
        self._by_algorithm: dict[str, list[PyJWK]] = {}
        accepted = frozenset(algorithms)
        jwks = document.get("keys")
        for jwk in jwks if isinstance(jwks, list) else []:
            if isinstance(jwk, dict):
                for algorithm in sorted(_algorithms(jwk) & accepted):
                    self._add(jwk, algorithm)

    def __bool__(self) -> bool:
        return bool(self._by_algorithm)

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """Return the key for `algorithm`; without a key id only where there is no choice."""
        if key_id is not None:
            return self._by_id.get((key_id, algorithm))
        fitting = self._by_algorithm.get(algorithm, [])
        return fitting[0] if len(fitting) == 1 else None

    def _add(self, jwk: dict[str, object], algorithm: str) -> None:
        try:
            key = PyJWK(jwk, algorithm)
        except (PyJWTError, ValueError, TypeError):
            return
        if isinstance(key.key, RSAPublicKey) and key.key.key_size < _MIN_RSA_BITS:
            return
        self._by_algorithm.setdefault(algorithm, []).append(key)
        key_id = jwk.get("kid")
        if isinstance(key_id, str):
            self._by_id.setdefault((key_id, algorithm), key)


def _algorithms(jwk: Mapping[str, object]) -> frozenset[str]:
    """Return what the key itself permits: nothing for encryption keys, and for private ones, which are compromised."""
    if jwk.get("use", "sig") != "sig" or "d" in jwk:
        return frozenset()
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return frozenset()
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return frozenset()
    served = _ALGORITHMS_OF.get((kind, curve), frozenset())
    algorithm = jwk.get("alg")
    return served if algorithm is None else served & {algorithm} if isinstance(algorithm, str) else frozenset()
