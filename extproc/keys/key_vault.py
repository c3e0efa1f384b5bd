"""Wrap the data keys of sessions with an RSA key in Azure Key Vault, which never leaves it.

Wrapping needs only the public part, fetched once where the permission `keys/get` is given; else, as always for
unwrapping, Key Vault does it (`keys/wrapKey`, `keys/unwrapKey`). What was wrapped names the version of the key, so that
it can be unwrapped after the key was rotated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from extproc.errors import ConfigError, StoreUnavailable
from extproc.recording.envelope import CannotOpen

_ALGORITHM: Final = KeyWrapAlgorithm.rsa_oaep_256
_KEY_ID: Final = re.compile(r"(https://[^/?#@\s]+/keys/[0-9A-Za-z-]{1,127})/([0-9a-f]{32})")
_VERSION: Final = re.compile(rb"([0-9a-f]{32}):(.+)", re.DOTALL)
_OPEN_VERSIONS: Final = 8
"""Versions of the key that a connection is kept for."""

# Whoever asks knows whether to ask again; the SDK would sleep in between, for minutes.
_BOUNDS: Final[dict[str, Any]] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 10}
_REFUSALS: Final = {
    400: "it is none that can wrap with RSA-OAEP-256",
    403: "this identity may not use it, or it is disabled",
    404: "there is no such key or version",
}


class KeyVaultKey:
    """Wrap and unwrap with one Key Vault key; for `Envelope`, from any thread; blocks while Key Vault is asked.

    `key_id` is the key's identifier with its version, `https://VAULT/keys/NAME/VERSION`; raises ConfigError where it is
    none. `options` go to the SDK's client. Both methods raise StoreUnavailable, which says whether Key Vault cannot be
    reached or refuses.
    """

    def __init__(self, key_id: str, credential: TokenCredential, **options: Any) -> None:  # noqa: ANN401 - the SDK's
        match = _KEY_ID.fullmatch(key_id)
        if match is None:
            raise ConfigError(f"{key_id!r} is no identifier of a Key Vault key: https://VAULT/keys/NAME/VERSION")
        self._name, self._version = match.groups()
        self._credential = credential
        self._options = {**_BOUNDS, **options}
        self._client = lru_cache(_OPEN_VERSIONS)(self._connected)

    def wrap(self, data_key: bytes) -> bytes:
        """Return a data key, encrypted (RSA-OAEP-256), with the version of the key before it."""
        with self._errors(f"{self._name}/{self._version}"):
            result = self._client(self._version).wrap_key(_ALGORITHM, data_key)
        return b"%b:%b" % (self._version.encode(), result.encrypted_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return a data key that any version of this key wrapped; raises CannotOpen for everything else."""
        match = _VERSION.fullmatch(wrapped)
        if match is None:
            raise CannotOpen("a data key", "it was not wrapped with a key of Key Vault")
        version, encrypted = match[1].decode(), match[2]
        with self._errors(f"{self._name}/{version}"):
            try:
                return self._client(version).unwrap_key(_ALGORITHM, encrypted).key
            except HttpResponseError as error:
                # 400: it does not decrypt; 404: no such key or version (Key Vault REST API, "Unwrap Key").
                if error.status_code not in (400, 404):
                    raise
                why = f"Key Vault cannot unwrap it with {self._name}/{version} (status {error.status_code})"
                raise CannotOpen("a data key", why) from None

    def _connected(self, version: str) -> CryptographyClient:
        return CryptographyClient(f"{self._name}/{version}", self._credential, **self._options)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Say in our words what the SDK raises; its texts can quote a request or an answer."""
        try:
            yield
        except ClientAuthenticationError:
            why = "there is no token for this identity, or Key Vault does not know it"
        except HttpResponseError as error:
            why = _REFUSALS.get(error.status_code or 0, f"Key Vault answered with status {error.status_code}")
        except (AzureError, ValueError) as error:
            why = f"Key Vault cannot be asked ({type(error).__name__})"
        else:
            return
        raise StoreUnavailable(f"Key Vault key {key}: {why}") from None
