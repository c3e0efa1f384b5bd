"""Whether the forward proxy opens tunnels to Copilot, reads what is in them, and opens none to elsewhere.

HTTPS_PROXY may name a proxy of somebody else's, which could be a way around. So it is asked without the token first:
the gateway's wants to know who asks, and says by a header whose answer that is. Others are shown no token.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from extproc.doctor.check import Check, Verdict, failed, ok, reason, skip, skipped
from extproc.doctor.gateway import TRUST_IT
from extproc.doctor.tls import Answerer, Authorities, NoTls, Streams, answerer, shake, trusting
from extproc.errors import ConfigError, ExtprocError
from extproc.relay.head import MAX_HEAD_BYTES, read_status
from extproc.replies import DECISION_HEADER
from extproc.secret import Secret

IDS: Final = ("proxy.connect", "proxy.confined")

_READ_HOST: Final = "api.githubcopilot.com"
_OTHER_HOST: Final = "example.com"
"""No policy opens it: RFC 2606 section 3 keeps it for examples."""
_MARK: Final = f"\r\n{DECISION_HEADER}:".encode()
_NAME_OURS: Final = (
    "This is not the gateway's proxy: name that one (--proxy or HTTPS_PROXY), and let workloads reach no other."
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is, without credentials; `token` is what the gateway's is told, None where there is none."""

    host: str
    port: int
    is_tls: bool
    in_use: str
    authorities: Authorities
    token: Secret | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Address:
    """A proxy's address, as in HTTPS_PROXY."""

    host: str
    port: int
    is_tls: bool
    password: Secret | None = field(default=None)


class _Refused(ExtprocError):
    def __init__(self, status: int, *, is_gateways: bool) -> None:
        super().__init__(f"the proxy answered CONNECT with status {status}")
        self.status, self.is_gateways = status, is_gateways


def address_of(url: str) -> Address:
    """Return what a proxy's URL says; raises ConfigError, which does not repeat it: it may hold a token."""
    fault = ConfigError("--proxy (or HTTPS_PROXY): expected http://HOST:PORT or https://HOST:PORT")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise fault from None
    if not host or parts.scheme not in {"http", "https"}:
        raise fault
    password = Secret(unquote(parts.password)) if parts.password else None
    return Address(host, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https", password)


def checks(proxy: Proxy) -> list[Check]:
    """Return both."""
    seconds = 8 * proxy.seconds + 1
    return [
        Check("proxy.connect", lambda: _looked(proxy, _READ_HOST, _connect), seconds),
        Check("proxy.confined", lambda: _looked(proxy, _OTHER_HOST, _confined), seconds),
    ]


def absent(why: str) -> list[Check]:
    """Return the same where there is nothing to look at."""
    return [skip(one, why) for one in IDS]


async def _looked(proxy: Proxy, host: str, look: Callable[[Proxy], Awaitable[Verdict]]) -> Verdict:
    return await _without_token(proxy, host) or await look(proxy)


async def _without_token(proxy: Proxy, host: str) -> Verdict | None:
    """Ask as nobody; return a verdict unless this is the gateway's proxy and there is a token to go on with."""
    try:
        async with asyncio.timeout(2 * proxy.seconds):
            _, writer = await _tunnel(proxy, host, None)
    except _Refused as refused:
        if refused.status < 500 and not refused.is_gateways:
            return failed(
                f"The proxy refuses {host} with status {refused.status}, as the gateway does not.", _NAME_OURS
            )
        if refused.status != 407:
            return failed(f"No tunnel to {host}: status {refused.status}.", _todo(refused.status))
        if proxy.token is None:
            return skipped("The proxy opens no tunnel without a token, as is right, and there is none here.")
        return None
    except OSError as error:
        return _out_of_reach(proxy, error)
    writer.transport.abort()
    return failed(f"The proxy opens a tunnel to {host} for everybody: it is a way around the gateway.", _NAME_OURS)


async def _connect(proxy: Proxy) -> Verdict:
    async def tunnel() -> Streams:
        return await _tunnel(proxy, _READ_HOST, proxy.token)

    try:
        await shake(tunnel, trusting(proxy.in_use), _READ_HOST, proxy.seconds)
        found = await answerer(tunnel, proxy.authorities, _READ_HOST, proxy.seconds, names=True)
    except _Refused as refused:
        return failed(f"No tunnel to {_READ_HOST}: status {refused.status}.", _todo(refused.status))
    except ssl.SSLCertVerificationError as error:
        return failed(
            f"In the tunnel to {_READ_HOST} the certificate is not trusted here: {error.verify_message}.",
            TRUST_IT,
        )
    except NoTls as why:
        return failed(
            f"In the tunnel to {_READ_HOST} no TLS comes about: {why}.", "See the log of the gateway's Envoy."
        )
    except OSError as error:
        return _out_of_reach(proxy, error)
    if found is not Answerer.GATEWAY:
        return failed(
            f"The tunnel leads to {_READ_HOST} itself: nobody reads what is in it.",
            "This is another proxy than the gateway's, or its list of hosts to intercept lacks this one.",
        )
    return ok(f"The proxy opens a tunnel to {_READ_HOST}, and its certificate there is trusted.")


async def _confined(proxy: Proxy) -> Verdict:
    try:
        async with asyncio.timeout(2 * proxy.seconds):
            _, writer = await _tunnel(proxy, _OTHER_HOST, proxy.token)
    except _Refused as refused:
        if refused.status == 403:
            return ok(f"The proxy opens no tunnel to {_OTHER_HOST}.")
        return failed(
            f"The proxy refuses {_OTHER_HOST} with status {refused.status}, and not because it may not be reached.",
            _todo(refused.status),
        )
    except OSError as error:
        return _out_of_reach(proxy, error)
    writer.transport.abort()
    return failed(
        f"The proxy opens a tunnel to {_OTHER_HOST}.",
        "Take it out of the policy, or use the gateway's proxy (--proxy).",
    )


def _out_of_reach(proxy: Proxy, error: OSError) -> Verdict:
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else reason(error)
    return failed(
        f"The proxy at {proxy.host}:{proxy.port} cannot be reached ({why}).",
        "Are the gateway's pods ready, and may this pod reach them (NetworkPolicy)? Is HTTPS_PROXY right?",
    )


def _todo(status: int) -> str:
    match status:
        case 407:
            return "The proxy does not accept the token: is it fresh, of a trusted issuer, for the right audience?"
        case 403 | 422:
            return "The policy refuses who the token is of: `extproc policy explain` says which rule decides."
        case _:
            return "The gateway takes no requests now: see gateway.ready, and the log of its pods."


async def _tunnel(proxy: Proxy, host: str, token: Secret | None) -> Streams:
    """Open a tunnel to port 443 of the host; raises _Refused and OSError."""
    tls = trusting(proxy.in_use) if proxy.is_tls else None
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=tls, limit=MAX_HEAD_BYTES)
    try:
        writer.write(_head(host, token))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = _status(head)
    except (EOFError, asyncio.LimitOverrunError):
        writer.transport.abort()
        raise ConnectionError("the proxy hung up") from None
    except BaseException:
        writer.transport.abort()
        raise
    if not 200 <= status < 300:
        writer.transport.abort()
        raise _Refused(status, is_gateways=_MARK in head.lower())
    return reader, writer


def _status(head: bytes) -> int:
    """Return the status of an answer, 0 where it is no HTTP/1."""
    found = read_status(head)
    return 0 if found is None else found[0]


def _head(host: str, token: Secret | None) -> bytes:
    """Return a CONNECT with what a client makes of HTTPS_PROXY: Basic, with the token for a password (RFC 7617)."""
    lines = [f"CONNECT {host}:443 HTTP/1.1", f"Host: {host}:443"]
    if token is not None:
        credential = base64.b64encode(f"doctor:{token.reveal()}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credential}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
