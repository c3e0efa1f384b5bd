"""What a developer's machine knows of a gateway: where it is, and who signs people in for it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

WELL_KNOWN = "/.well-known/copilot-extproc"
"""Where a gateway tells its profile to anybody (RFC 8615): nothing in it is secret."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gateway as `extproc login` learned of it.

    `gateway` is its base URL for clients that take one, `proxy` that of its forward proxy, `ca_pem` the certificates of
    the authority that clients must trust (PEM), where it is not one the system trusts. `issuer` is the OIDC issuer,
    `client_id` the public client to sign in with, `scopes` what to ask for beside `openid` and `offline_access`;
    `use` says which of the issuer's tokens the gateway takes. `console` is the address of the console.
    """

    gateway: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...] = ()
    use: Literal["access_token", "id_token"] = "access_token"
    proxy: str | None = None
    ca_pem: str | None = None
    console: str | None = None
