from __future__ import annotations

import base64
import io
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from extproc.errors import ConfigError, StoreUnavailable
from extproc.keys.key_vault import KeyVaultKey
from extproc.recording.envelope import CannotOpen, Envelope

OLD, NEW, UNKNOWN = "a" * 32, "b" * 32, "c" * 32
SECRET = bytes(range(64))
TENANT = "00000000-0000-0000-0000-000000000001"


class FakeVault(BaseAdapter):
    """Answer for one vault as Key Vault's REST API (7.x) does, in the place of the network below the SDK's transport.

    Strict: no request without the token that the challenge asks for, none of an unknown shape.
    """

    def __init__(self, host: str, *, may_get: bool = True) -> None:
        super().__init__()
        self.host = host
        self.may_get = may_get
        self.resource = "https://vault.azure.net"
        self.keys = {version: rsa.generate_private_key(65537, 2048) for version in (OLD, NEW)}
        self.asked: list[str] = []
        self.failing: list[int | Exception] = []

    def close(self) -> None:
        pass

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert request.url is not None
        url = urlsplit(request.url)
        assert (url.scheme, url.netloc) == ("https", self.host)
        assert re.fullmatch(r"api-version=7\.\d|api-version=20\d\d-\d\d-\d\d", url.query)
        if "Authorization" not in request.headers:
            assert not request.body, "a body was shown to who has not asked for a token"
            challenge = f'Bearer authorization="https://login.microsoftonline.com/{TENANT}", resource="{self.resource}"'
            return answer(request, 401, {}, {"WWW-Authenticate": challenge})
        assert request.headers["Authorization"] == "Bearer token-for-vault"
        if self.failing:
            failure = self.failing.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return answer(request, failure, {"error": {"code": "Failing", "message": "no"}})
        return answer(request, *self.handled(request, url.path))

    def handled(self, request: requests.PreparedRequest, path: str) -> tuple[int, dict[str, Any]]:
        match = re.fullmatch(r"/keys/recording/([0-9a-f]{32})(?:/(wrapkey|unwrapkey))?", path)
        if match is None or match[1] not in self.keys:
            return 404, {"error": {"code": "KeyNotFound", "message": "not here"}}
        version, operation = match.groups()
        self.asked.append(f"{request.method} {operation or 'key'} {version[0]}")
        kid = f"https://{self.host}/keys/recording/{version}"
        key = self.keys[version]
        if operation is None:
            if not self.may_get:
                return 403, {"error": {"code": "Forbidden", "message": "keys/get"}}
            numbers = key.public_key().public_numbers()
            jwk = {"kid": kid, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
            return 200, {"key": {**jwk, "key_ops": ["wrapKey", "unwrapKey"]}, "attributes": {"enabled": True}}
        assert isinstance(request.body, str | bytes)
        body = json.loads(request.body)
        assert body["alg"] == "RSA-OAEP-256"
        value = base64.urlsafe_b64decode(body["value"] + "==")
        oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
        try:
            done = key.public_key().encrypt(value, oaep) if operation == "wrapkey" else key.decrypt(value, oaep)
        except ValueError:
            return 400, {"error": {"code": "BadParameter", "message": "could not decrypt"}}
        return 200, {"kid": kid, "value": base64.urlsafe_b64encode(done).decode().rstrip("=")}


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).decode().rstrip("=")


def answer(
    request: requests.PreparedRequest, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.request = request
    response.url = request.url or ""
    response.headers.update({"Content-Type": "application/json", **(headers or {})})
    response.raw = HTTPResponse(io.BytesIO(json.dumps(body).encode()), preload_content=False, status=status)
    return response


class Credential:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        raise NotImplementedError

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        if self.fails:
            raise ClientAuthenticationError("no managed identity, secret-in-text")
        assert scopes == ("https://vault.azure.net/.default",)
        return AccessTokenInfo("token-for-vault", 4_000_000_000)


@pytest.fixture
def vault(request: pytest.FixtureRequest) -> FakeVault:
    # The SDK remembers challenges by host in the process: each test has a host of its own.
    name = re.sub("[^a-z0-9]", "", request.node.name.lower())[-60:]
    return FakeVault(f"{name}.vault.azure.net")


def key_of(vault: FakeVault, version: str = NEW, credential: Credential | None = None) -> KeyVaultKey:
    session = requests.Session()
    session.mount("https://", vault)
    transport = RequestsTransport(session=session, session_owner=False)
    key_id = f"https://{vault.host}/keys/recording/{version}"
    return KeyVaultKey(key_id, credential or Credential(), transport=transport)


def test_a_data_key_is_wrapped_here_with_the_public_part_and_unwrapped_there(vault: FakeVault) -> None:
    key = key_of(vault)
    wrapped = [key.wrap(SECRET) for _ in range(3)]
    assert vault.asked == ["GET key b"]
    assert all(one.startswith(NEW.encode() + b":") and SECRET not in one for one in wrapped)
    assert [key.unwrap(one) for one in wrapped] == [SECRET] * 3
    assert vault.asked[1:] == ["POST unwrapkey b"] * 3


def test_without_the_right_to_read_the_key_key_vault_wraps(vault: FakeVault) -> None:
    vault.may_get = False
    key = key_of(vault)
    assert key.unwrap(key.wrap(SECRET)) == SECRET
    assert vault.asked == ["GET key b", "POST wrapkey b", "POST unwrapkey b"]


def test_what_an_older_version_wrapped_is_unwrapped_with_that(vault: FakeVault) -> None:
    old = key_of(vault, OLD).wrap(SECRET)
    vault.asked.clear()
    assert key_of(vault, NEW).unwrap(old) == SECRET
    assert vault.asked == ["GET key a", "POST unwrapkey a"]


def test_an_envelope_works_with_it(vault: FakeVault) -> None:
    key = key_of(vault)
    envelope = Envelope(key.wrap, key.unwrap, lambda size: SECRET[:size])
    made = envelope.new_key("s1", "k1")
    assert made.reveal(made.protect(b"body")) == b"body"


@pytest.mark.parametrize(
    ("wrapped", "why"),
    [
        (b"", "not wrapped with a key of Key Vault"),
        (b"\x01" * 72, "not wrapped with a key of Key Vault"),
        (NEW.encode() + b":", "not wrapped with a key of Key Vault"),
        (b"../" + NEW.encode() + b":x", "not wrapped with a key of Key Vault"),
        (NEW.encode() + b":" + b"x" * 256, f"cannot unwrap it with .*/{NEW} .status 400"),
        (UNKNOWN.encode() + b":" + b"x" * 256, f"cannot unwrap it with .*/{UNKNOWN} .status 404"),
    ],
)
def test_what_no_version_of_the_key_wrapped_cannot_be_opened(vault: FakeVault, wrapped: bytes, why: str) -> None:
    with pytest.raises(CannotOpen, match=why):
        key_of(vault).unwrap(wrapped)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "may not use it, or it is disabled"),
        (429, "answered with status 429"),
        (500, "answered with status 500"),
        (503, "answered with status 503"),
    ],
)
def test_a_refusal_says_which_key_and_why_and_is_not_repeated(vault: FakeVault, status: int, why: str) -> None:
    key = key_of(vault)
    wrapped = key.wrap(SECRET)
    vault.failing = [status, 418]
    with pytest.raises(StoreUnavailable, match=f"recording/{NEW}: .*{why}"):
        key.unwrap(wrapped)
    assert vault.failing == [418]


def test_a_key_that_is_not_there_is_told(vault: FakeVault) -> None:
    with pytest.raises(StoreUnavailable, match=f"recording/{UNKNOWN}: there is no such key or version"):
        key_of(vault, UNKNOWN).wrap(SECRET)


def test_a_lost_connection_is_told_at_once_and_the_next_call_is_made_anew(vault: FakeVault) -> None:
    key = key_of(vault)
    wrapped = key.wrap(SECRET)
    vault.failing = [requests.ConnectionError("gone")]
    with pytest.raises(StoreUnavailable, match=r"Key Vault cannot be asked \(ServiceRequestError\)"):
        key.unwrap(wrapped)
    assert key.unwrap(wrapped) == SECRET


def test_a_challenge_that_names_another_place_gets_no_token(vault: FakeVault) -> None:
    vault.resource = "https://vault.example.com"
    with pytest.raises(StoreUnavailable, match=r"Key Vault cannot be asked \(ValueError\)"):
        key_of(vault).wrap(SECRET)


def test_an_identity_without_a_token_is_told_without_the_sdks_words(vault: FakeVault) -> None:
    with pytest.raises(StoreUnavailable, match="no token for this identity") as caught:
        key_of(vault, credential=Credential(fails=True)).wrap(SECRET)
    assert "secret-in-text" not in str(caught.value)


@pytest.mark.parametrize(
    "key_id",
    [
        "",
        "https://v.vault.azure.net/keys/recording",
        f"http://v.vault.azure.net/keys/recording/{NEW}",
        f"https://v.vault.azure.net/secrets/recording/{NEW}",
        f"https://user@v.vault.azure.net/keys/recording/{NEW}",
        f"https://v.vault.azure.net/keys/recording/{NEW}/",
    ],
)
def test_an_identifier_that_is_none_or_lacks_its_version_is_refused(key_id: str) -> None:
    with pytest.raises(ConfigError, match="no identifier of a Key Vault key"):
        KeyVaultKey(key_id, Credential())
