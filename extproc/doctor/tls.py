"""Who answers TLS somewhere: the gateway, somebody with a public certificate, or nobody."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from cryptography import x509

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], Awaitable[Streams]]
"""Open a connection on which nothing was said yet; raises OSError."""


class NoTls(Exception):
    """Say that a connection came about, and TLS on it did not."""


class NoAnswer(NoTls):
    """Say that the handshake did not come to an end, so that nothing is known of who is there."""


class Answerer(Enum):
    """Whose certificate it is that a server shows for a host's name."""

    GATEWAY = auto()
    PUBLIC = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Authorities:
    """PEM texts: the gateway's authority alone, and those that everybody trusts; empty where none is known.

    `is_guess` says that nobody told which is the gateway's.
    """

    gateway: str
    public: str
    is_guess: bool = False


def trusting(pem: str, *, names: bool = True) -> ssl.SSLContext:
    """Return what trusts these authorities and no other; without `names` the certificate may be for any name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = names
    if pem:
        tls.load_verify_locations(cadata=pem)
    return tls


async def shake(open_one: Open, tls: ssl.SSLContext, host: str, seconds: float) -> x509.Certificate:
    """Return the certificate that is shown for a host, verified.

    Raises OSError where nothing is reached (TimeoutError also is one), ssl.SSLCertVerificationError, NoTls, NoAnswer.
    """
    async with asyncio.timeout(seconds):
        _, writer = await open_one()
    try:
        async with asyncio.timeout(seconds):
            await writer.start_tls(tls, server_hostname=host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown)
    except ssl.SSLCertVerificationError:
        raise
    except TimeoutError:
        raise NoAnswer("it did not answer the handshake in time") from None
    except (OSError, EOFError):
        raise NoTls("it ended the handshake") from None
    finally:
        writer.transport.abort()


async def answerer(open_one: Open, authorities: Authorities, host: str, seconds: float, *, names: bool) -> Answerer:
    """Say whose certificate is shown; raises as `shake` does, but for certificates."""
    for found, pem in ((Answerer.GATEWAY, authorities.gateway), (Answerer.PUBLIC, authorities.public)):
        try:
            await shake(open_one, trusting(pem, names=names), host, seconds)
        except ssl.SSLCertVerificationError:
            continue
        return found
    return Answerer.UNKNOWN


def direct(address: str, port: int) -> Open:
    """Return what connects without a proxy."""
    return lambda: asyncio.open_connection(address, port)
