"""Whether the hosts of Copilot and GitHub are out of reach, except through the gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from extproc.config import UPSTREAM_HOSTS
from extproc.doctor.check import Check, Status, Verdict, aside, failed, ok, skipped
from extproc.doctor.tls import Answerer, Authorities, NoAnswer, NoTls, answerer, direct
from extproc.intercepted import DEFAULT_HOSTS

HOSTS: Final = tuple(dict.fromkeys((*DEFAULT_HOSTS, *UPSTREAM_HOSTS.values())))
"""What clients speak to, and what the gateway speaks to for them."""

BY_NUMBER: Final = "github.com"
"""The name that is asked for at an address that was given by number."""

Resolve = Callable[[str], Awaitable[list[str]]]
"""Return the addresses of a name, none where there is no such name; raises OSError."""

_MAX_ADDRESSES: Final = 8
_WORST_FIRST: Final = (Status.FAILED, Status.SKIPPED, Status.OK)
_CLOSE_IT: Final = (
    "Let only the gateway's pods reach GitHub: check the NetworkPolicies and the firewall (docs/doctor.md)."
)


@dataclass(frozen=True, slots=True)
class Outside:
    """How to look at what is outside: each connection and each handshake may take `seconds`."""

    authorities: Authorities
    seconds: float
    port: int = 443


async def resolve(host: str) -> list[str]:
    """Ask this machine's resolver, as clients do."""
    try:
        found = await aside(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except socket.gaierror as error:
        # There is no such name (RFC 3493 section 6.1), other than where nobody answers.
        if error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}:
            return []
        raise
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def checks(hosts: Sequence[str], addresses: Sequence[str], outside: Outside, ask: Resolve = resolve) -> list[Check]:
    """Return a check for each host, and for each address that is given by number."""
    # A connection and a handshake for each of the two kinds of authorities; names may take as long as all of that.
    seconds = 8 * outside.seconds
    named = [Check(f"way-around.{host}", _of_host(host, outside, ask), seconds) for host in hosts]
    return named + [Check(f"way-around.{one}", _of_address(one, outside), seconds) for one in addresses]


def _of_host(host: str, outside: Outside, ask: Resolve) -> Callable[[], Awaitable[Verdict]]:
    async def look() -> Verdict:
        try:
            addresses = await ask(host)
        except socket.gaierror as error:
            return skipped(f"The resolver does not answer for {host} ({error.strerror}): only --address can tell.")
        if not addresses:
            return ok(f"{host} has no address here.")
        # Where a name has very many, one is as good as another.
        looked = await asyncio.gather(*(_seen(host, one, outside) for one in addresses[:_MAX_ADDRESSES]))
        return min(looked, key=lambda verdict: _WORST_FIRST.index(verdict.status))

    return look


def _of_address(address: str, outside: Outside) -> Callable[[], Awaitable[Verdict]]:
    return lambda: _seen(BY_NUMBER, address, outside, names=False)


async def _seen(host: str, address: str, outside: Outside, *, names: bool = True) -> Verdict:
    where = f"{host} at {address}" if names else address
    try:
        found = await answerer(direct(address, outside.port), outside.authorities, host, outside.seconds, names=names)
    except NoAnswer as why:
        return failed(
            f"{where} takes connections, and who is there could not be told: {why}.",
            f"Run it again with a longer --timeout. {_CLOSE_IT}",
        )
    except NoTls:
        # So do firewalls and meshes that look at the name before they let a connection through.
        return ok(f"{where} takes connections, and then cuts them off.")
    except OSError:
        return ok(f"{where} is not reachable from here.")
    return _answered(where, found, is_guess=outside.authorities.is_guess)


def _answered(where: str, by: Answerer, *, is_guess: bool) -> Verdict:
    match by:
        case Answerer.PUBLIC:
            return failed(f"{where} is reachable without the gateway.", _CLOSE_IT)
        case Answerer.GATEWAY if is_guess:
            return skipped(
                f"{where} is answered with an authority of this machine's own: whether it is the gateway's, --gateway"
                " or --ca-file would tell."
            )
        case Answerer.GATEWAY:
            return ok(f"{where} is answered by the gateway.")
        case Answerer.UNKNOWN:
            return failed(
                f"{where} is reachable, and its certificate is neither the gateway's nor a public one.",
                f"If it is the gateway's, name its authority with --ca-file. If not: {_CLOSE_IT}",
            )
