"""Speak to the REST API of one console: bounded, within time, and to nobody else than was named."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from extproc.address import url_fault
from extproc.console.api.shapes import MAX_LONG_BODY_BYTES, Error
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fetch import read_bounded
from extproc.replay import printable
from extproc.secret import Secret
from extproc.signin.current import client_session

BASE: Final = "/api/v1"
MAX_BYTES: Final = 256 * 1024 * 1024
"""Longest answer: a page of a session holds whole conversations."""

MAX_MESSAGE_CHARS: Final = 1000
# A trace or a receipt of a large log takes a while before its first byte.
TIMEOUT: Final = aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=120)

T = TypeVar("T")


class Declined(ExtprocError):
    """Say what the console said; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """One HTTP session with a console."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: Secret) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._token = token

    async def get(self, path: str, shape: type[T], query: Mapping[str, str | int | None] | None = None) -> T:
        """Return what a route answers; raises Declined, and ConfigError without an answer that can be understood."""
        return self._read(await self.raw("GET", path, query=query), shape)

    async def post(self, path: str, shape: type[T], body: object) -> T:
        """Return what a route answers to a body; raises as `get`."""
        return self._read(await self.raw("POST", path, body=msgspec.json.encode(body)), shape)

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: bytes | None = None,
    ) -> bytes:
        """Return the bytes of an answer; `path` is that of a route, each part of it quoted."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        # Encoded as it stands: an id with a dot or a slash in it must not become another path.
        url = URL(f"{self._url}{BASE}{path}", encoded=True).with_query(given)
        headers = {"authorization": f"Bearer {self._token.reveal()}", "accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "application/json"
            if len(body) > MAX_LONG_BODY_BYTES:
                told = f"a console takes at most {MAX_LONG_BODY_BYTES >> 20} MiB"
                raise ConfigError(f"that is {len(body) >> 20} MiB to send, and {told}: ask for less at a time")
        data = None if body is None else BytesIO(body)
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, allow_redirects=False, timeout=TIMEOUT
            ) as response:
                status, raw = response.status, await read_bounded(response, MAX_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConfigError(f"{self._url}: {_failed(error)}") from None
        if raw is None:
            raise ConfigError(f"{self._url}: the answer is longer than {MAX_BYTES} bytes")
        if status != 200:
            raise self._declined(status, raw)
        return raw

    def _read(self, raw: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
            told = f" ({str(fault)[:200]})" if isinstance(fault, msgspec.ValidationError) else ""
            raise ConfigError(f"{self._url}: the answer is not one of a console of this version{told}") from None

    def _declined(self, status: int, raw: bytes) -> ExtprocError:
        try:
            error = msgspec.json.decode(raw, type=Error).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ConfigError(f"{self._url}: the answer has status {status}; is this the console's address?")
        return Declined(status, printable(f"{error.code}: {error.message}"[:MAX_MESSAGE_CHARS]))


def talk(url: str, token: Secret, tls: ssl.SSLContext, what: Callable[[Connection], Awaitable[T]]) -> T:
    """Return what a conversation with the console at `url` comes to; raises Declined and ConfigError."""

    async def run() -> T:
        async with client_session(tls) as session:
            return await what(Connection(session, url, token))

    return asyncio.run(run())


def check_address(url: str) -> None:
    """Raise ConfigError for an address that no token may be sent to."""
    if fault := url_fault(url):
        # The address is not repeated: what is wrong with it may be a password in it.
        raise ConfigError(f"--server: the console's address {fault}; expected one such as https://console.example.com")


def _failed(error: Exception) -> str:
    # Only the kind of error: its text can quote the request, the token included.
    told = f"the console does not answer ({type(error).__name__})"
    return f"{told}; name the file of its authority in SSL_CERT_FILE" if _is_untrusted(error) else told


def _is_untrusted(error: Any) -> bool:  # noqa: ANN401 - whatever was raised
    return isinstance(error, aiohttp.ClientConnectorCertificateError)
