"""What certificates are for: host names, addresses, and the names that an authority is confined to. Pure.

Every authority made here carries name constraints (RFC 5280 section 4.2.1.10): it can sign for the hosts that the
forward proxy intercepts and for the gateway's own names, and for nothing else. Who trusts it gives up Copilot traffic,
which the gateway reads anyway, and not the mail or the bank. The extension is critical, as the RFC demands of an
authority. The RFC does not oblige clients to look at the constraints of a trust anchor; docs/ca.md lists those that
were tried.

Addresses are not confined: BoringSSL (Bun, Electron) refuses every certificate with an address from an authority whose
constraints speak of addresses ("unsupported name constraint type"), and the gateway's own has 127.0.0.1 in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509

from extproc.errors import ConfigError
from extproc.intercepted import intercepted_hosts

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_WHOLE_DOMAINS = ("githubcopilot.com",)
"""Permitted as a whole, since nothing but Copilot is there: another plan's hosts then need no new authority."""

# RFC 1035 section 2.3.4: a label has at most 63 bytes, a name 253 as text. RFC 5280 section 4.2.1.6: ASCII.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_MAX_NAME_CHARS = 253


def proxy_names(hosts: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what the interception certificate is for: the default hosts and `hosts`. Raises ConfigError."""
    names = intercepted_hosts(hosts)
    for name in names:
        general_name(name)
    return names


def listener_names(more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what the gateway's own certificate is for: this machine's loopback and `more`. Raises ConfigError."""
    return tuple(dict.fromkeys((*LOOPBACK, *(_text(general_name(name)) for name in more))))


def general_name(name: str) -> x509.GeneralName:
    """Return a host name or IP address as certificates have it; raises ConfigError where it cannot be in one."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > _MAX_NAME_CHARS or not _DNS_NAME.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ConfigError(
            f"{name!r} cannot be in a certificate: expected a host name in lower-case ASCII, such as "
            "gateway.example.com or *.example.com, or an IP address"
        )
    return x509.DNSName(name)


def alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    """Return the extension that says what a certificate is for; raises ConfigError."""
    return x509.SubjectAlternativeName([general_name(name) for name in names])


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names and addresses that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(_text(name) for name in extension.value if isinstance(name, x509.DNSName | x509.IPAddress))


def confinement(names: Iterable[str]) -> x509.NameConstraints:
    """Return the constraints that permit the host names of `names`, with all below them, `localhost`, and no other."""
    found = [general_name(name) for name in (*LOOPBACK, *names)]
    domains = {_domain(name.value) for name in found if isinstance(name, x509.DNSName)}
    least = sorted(one for one in domains if not any(one != other and _is_below(one, other) for other in domains))
    return x509.NameConstraints(permitted_subtrees=[x509.DNSName(one) for one in least], excluded_subtrees=None)


def permits(authority: x509.Certificate, name: str) -> bool:
    """Say whether an authority may sign for `name`, by its constraints (RFC 5280 section 4.2.1.10)."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    wanted = general_name(name)
    kind = type(wanted)
    permitted = [one for one in constraints.permitted_subtrees or () if isinstance(one, kind)]
    excluded = [one for one in constraints.excluded_subtrees or () if isinstance(one, kind)]
    if permitted and not any(_covers(one, wanted) for one in permitted):
        return False
    # A wildcard also promises what is excluded below it.
    return not any(_covers(one, wanted) or (name.startswith("*.") and _covers(wanted, one)) for one in excluded)


def permitted_of(authority: x509.Certificate) -> tuple[str, ...] | None:
    """Return the subtrees that an authority is confined to; None where it may sign for any name."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    return tuple(str(one.value) for one in constraints.permitted_subtrees or ()) or None


def _covers(subtree: x509.GeneralName, name: x509.GeneralName) -> bool:
    match subtree, name:
        case x509.DNSName(), x509.DNSName():
            # Some write a domain's subtree with a dot in front, which the RFC has for URIs.
            return _is_below(name.value.removeprefix("*."), subtree.value.removeprefix("*.").removeprefix("."))
        case x509.IPAddress(), x509.IPAddress():
            return _is_within(str(name.value), str(subtree.value))
        case _:
            return False


def _is_within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    match one, other:
        case ipaddress.IPv4Network(), ipaddress.IPv4Network():
            return one.subnet_of(other)
        case ipaddress.IPv6Network(), ipaddress.IPv6Network():
            return one.subnet_of(other)
        case _:
            return False


def _is_below(name: str, domain: str) -> bool:
    return not domain or name == domain or name.endswith(f".{domain}")


def _domain(name: str) -> str:
    plain = name.removeprefix("*.")
    return next((domain for domain in _WHOLE_DOMAINS if _is_below(plain, domain)), plain)


def _text(name: x509.GeneralName) -> str:
    return str(name.value)
