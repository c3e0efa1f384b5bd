"""Whether the gateway reaches whom it asks: GitHub's hosts, and the issuers of tokens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from extproc.doctor.check import Check, Verdict, failed, ok, reason
from extproc.doctor.tls import NoTls, direct, shake, trusting
from extproc.errors import Refused
from extproc.identity.issuers import Issuer
from extproc.keys.jwks import JwksSource, KeyLimits
from extproc.signin.current import client_session

_OPEN_IT: Final = (
    "Open a way to it for the gateway's pods (NetworkPolicy, firewall), and keep dnsPolicy: Default: "
    "the cluster's DNS may lead back to the gateway."
)


@dataclass(frozen=True, slots=True)
class Way:
    """How to look: `in_use` is who is trusted (PEM), each connection and each handshake may take `seconds`."""

    in_use: str
    seconds: float
    port: int = 443


def checks(hosts: Iterable[str], issuers: Iterable[Issuer], way: Way) -> list[Check]:
    """Return a check for each host, and for the keys of each issuer."""
    seconds = 2 * way.seconds + 1
    found = [Check(f"upstream.{one}.reachable", partial(_reached, one, way), seconds) for one in dict.fromkeys(hosts)]
    return found + [Check(f"issuer.{one.url}.keys", partial(_keys_of, one, way), seconds) for one in issuers]


async def _reached(host: str, way: Way) -> Verdict:
    try:
        shown = await shake(direct(host, way.port), trusting(way.in_use), host, way.seconds)
    except ssl.SSLCertVerificationError as error:
        return failed(f"{host} shows a certificate that is not trusted here: {error.verify_message}.", _OPEN_IT)
    except NoTls as why:
        return failed(f"{host} takes connections, and no TLS comes about: {why}.", _OPEN_IT)
    except OSError as error:
        return failed(f"{host} cannot be reached from here ({reason(error)}).", _OPEN_IT)
    return ok(f"{host} is reachable, with a certificate of {shown.issuer.rfc4514_string()}.")


async def _keys_of(issuer: Issuer, way: Way) -> Verdict:
    """Fetch the issuer's keys as the service does."""
    async with client_session() as session:
        limits = KeyLimits(timeout=way.seconds)
        source = JwksSource(issuer, session=session, now=asyncio.get_running_loop().time, limits=limits)
        try:
            # No issuer has this one; what counts is that it says so.
            await source.key("extproc-doctor", min(issuer.algorithms))
        except Refused:
            pass
        finally:
            await source.aclose()
    if source.state().age is None:
        return failed(
            f"The keys of the issuer {issuer.url} cannot be fetched, so nobody it signs for is let in.",
            "May this pod reach the issuer (NetworkPolicy, firewall)? Is issuers in gateway.yaml right?",
        )
    return ok(f"The keys of the issuer {issuer.url} are fetched.")
