"""Which addresses may be asked for what decides: https, or plain http to this very machine. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def url_fault(url: str) -> str | None:
    """Say why `url` must not be trusted for keys or tokens; None where it is https, or http to a loopback address."""
    if not url.isprintable() or " " in url:
        return "has a space or a control character"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if not host or parts.query or parts.fragment or parts.username is not None:
        return "must have a host and neither credentials, query nor fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return None
    return "must be an https URL (http only for a loopback address)"


def is_loopback(host: str | None) -> bool:
    """Say whether `host`, as in a URL, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
