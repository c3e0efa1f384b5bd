"""Say whose tokens are trusted, for which audience, and under which algorithms. Pure.

Each value stands for exactly one `iss`: several Entra tenants and token versions are several issuers. Every rule is
checked on construction, so that an issuer that breaks one cannot exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from extproc.address import url_fault
from extproc.errors import ConfigError

# Asymmetric signatures only (RFC 7518 section 3.1, RFC 8037): with `none` or HS*, whoever knows the public key could
# sign.
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
DEFAULT_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")

GITHUB_ACTIONS_ISSUER = "https://token.actions.githubusercontent.com"
ENTRA_LOGIN_BASE = "https://login.microsoftonline.com"
ENTRA_STS_BASE = "https://sts.windows.net"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_LEEWAY_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trusted:
    url: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    jwks_url: str | None
    leeway_seconds: int

    def __post_init__(self) -> None:
        where = f"issuer {self.url!r}"
        for url in (self.url, self.jwks_url):
            if url is not None and (fault := url_fault(url)):
                raise ConfigError(f"{where}: {url!r} {fault}")
        if not self.audiences or not all(self.audiences):
            raise ConfigError(f"{where}: at least one audience is required, and none may be empty")
        if not self.algorithms:
            raise ConfigError(f"{where}: at least one algorithm is required")
        if weak := sorted(self.algorithms - ASYMMETRIC):
            raise ConfigError(f"{where}: algorithm {weak[0]!r} is not one of {', '.join(sorted(ASYMMETRIC))}")
        if not 0 <= self.leeway_seconds <= _MAX_LEEWAY_SECONDS:
            raise ConfigError(f"{where}: leeway_seconds must be between 0 and {_MAX_LEEWAY_SECONDS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcIssuer(_Trusted):
    """Trust a generic OpenID Connect provider; `kind` is what all its subjects are."""

    groups_claim: str
    name_claim: str
    kind: Literal["person", "workload"]

    def __post_init__(self) -> None:
        _Trusted.__post_init__(self)
        if not self.groups_claim or not self.name_claim:
            raise ConfigError(f"issuer {self.url!r}: groups_claim and name_claim must not be empty")
        if self.kind not in {"person", "workload"}:
            raise ConfigError(f"issuer {self.url!r}: kind must be 'person' or 'workload'")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntraIssuer(_Trusted):
    """Trust one token version of one Microsoft Entra tenant."""

    tenant: str

    def __post_init__(self) -> None:
        _Trusted.__post_init__(self)
        # `common` and its kin would trust every tenant in the world.
        if not _UUID.fullmatch(self.tenant):
            raise ConfigError(f"Entra tenant {self.tenant!r}: expected the tenant's id, a UUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsIssuer(_Trusted):
    """Trust GitHub Actions workflows of some repository owners (lower case)."""

    repository_owners: frozenset[str]

    def __post_init__(self) -> None:
        _Trusted.__post_init__(self)
        # Anybody on GitHub can mint a token for any audience, so the audience alone proves nothing.
        if not self.repository_owners or not all(self.repository_owners):
            raise ConfigError(
                f"issuer {self.url!r}: repository_owners must name at least one organisation or user, since anybody "
                "on GitHub can obtain a token for any audience"
            )


Issuer = OidcIssuer | EntraIssuer | ActionsIssuer


def oidc(
    url: str,
    *,
    audiences: Iterable[str],
    algorithms: Iterable[str] = DEFAULT_ALGORITHMS,
    jwks_url: str | None = None,
    leeway_seconds: int = 60,
    groups_claim: str = "groups",
    name_claim: str = "name",
    kind: Literal["person", "workload"] = "person",
) -> OidcIssuer:
    """Trust the provider whose `iss` is exactly `url`; without `jwks_url` its keys are found by discovery."""
    return OidcIssuer(
        url=url,
        audiences=_names("audiences", audiences),
        algorithms=_names("algorithms", algorithms),
        jwks_url=jwks_url,
        leeway_seconds=leeway_seconds,
        groups_claim=groups_claim,
        name_claim=name_claim,
        kind=kind,
    )


def entra(
    tenants: Iterable[str],
    *,
    audiences: Iterable[str],
    login_base: str = ENTRA_LOGIN_BASE,
    sts_base: str = ENTRA_STS_BASE,
    leeway_seconds: int = 60,
) -> tuple[EntraIssuer, ...]:
    """Trust exactly these tenants, each with its v1.0 and its v2.0 issuer and key address.

    `login_base` and `sts_base` are origins without a trailing slash (national clouds, tests). Issuers and addresses:
    Microsoft identity platform documentation, "Access tokens" and "OpenID Connect".
    """
    accepted = _names("audiences", audiences)
    issuers: list[EntraIssuer] = []
    for tenant in sorted({name.lower() for name in _names("tenants", tenants)}):
        login = f"{login_base}/{tenant}"
        for url, jwks_url in (
            (f"{sts_base}/{tenant}/", f"{login}/discovery/keys"),
            (f"{login}/v2.0", f"{login}/discovery/v2.0/keys"),
        ):
            issuers.append(
                EntraIssuer(
                    url=url,
                    audiences=accepted,
                    algorithms=frozenset({"RS256"}),
                    jwks_url=jwks_url,
                    leeway_seconds=leeway_seconds,
                    tenant=tenant,
                )
            )
    if not issuers:
        raise ConfigError("Entra: at least one tenant id is required")
    return tuple(issuers)


def github_actions(
    repository_owners: Iterable[str],
    *,
    audiences: Iterable[str],
    url: str = GITHUB_ACTIONS_ISSUER,
    jwks_url: str | None = None,
    leeway_seconds: int = 60,
) -> ActionsIssuer:
    """Trust the workflows of these repository owners; `url` differs on GitHub Enterprise Server."""
    return ActionsIssuer(
        url=url,
        audiences=_names("audiences", audiences),
        algorithms=frozenset({"RS256"}),
        jwks_url=jwks_url,
        leeway_seconds=leeway_seconds,
        repository_owners=frozenset(owner.lower() for owner in _names("repository_owners", repository_owners)),
    )


def _names(what: str, values: Iterable[str]) -> frozenset[str]:
    # A bare string is an iterable of letters: the commonest mistake in a configuration file.
    if isinstance(values, str):
        raise ConfigError(f"{what} must be a list, not the single text {values!r}")
    return frozenset(values)
