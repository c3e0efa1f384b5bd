"""Turn the verified claims of an issuer into a principal. Pure; raises Refused with `identity.claims`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, assert_never

from extproc.errors import Code
from extproc.identity.issuers import ActionsIssuer, EntraIssuer, Issuer, OidcIssuer
from extproc.identity.principal import Principal
from extproc.identity.token import refused

Claims = Mapping[str, object]

# What identifies a workflow run, and the branch and environment it runs for (GitHub documentation, "OpenID Connect").
_ACTIONS_CLAIMS = (
    "repository",
    "repository_owner",
    "ref",
    "job_workflow_ref",
    "actor",
    "workflow",
    "run_id",
    "environment",
    "event_name",
)
_ENTRA_PERSON_NAMES = ("preferred_username", "upn", "unique_name", "name")
_ENTRA_WORKLOAD_NAMES = ("app_displayname", "azp", "appid")

# Control characters and direction overrides could forge what a terminal or an auditor's page shows; lone surrogates
# cannot be written as UTF-8 at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_CLAIM_CHARACTERS = 1024


def principal_of(issuer: Issuer, claims: Claims) -> Principal:
    """Return who the verified `claims` describe; a claim of the wrong type is refused, never ignored."""
    match issuer:
        case OidcIssuer():
            return _oidc(issuer, claims)
        case EntraIssuer():
            return _entra(issuer, claims)
        case ActionsIssuer():
            return _actions(issuer, claims)
        case _:
            assert_never(issuer)


def needs_groups(issuer: Issuer, claims: Claims) -> bool:
    """Say whether the groups did not fit into the token and have to be asked for elsewhere (Entra: Microsoft Graph).

    The marks are those of distributed claims (OpenID Connect Core section 5.6.2) and, for Entra's implicit flow,
    `hasgroups` (Microsoft identity platform documentation, "Groups overage claim").
    """
    elsewhere = claims.get("_claim_names", {})
    if not isinstance(elsewhere, Mapping):
        raise refused(Code.IDENTITY_CLAIMS, "The token's _claim_names claim is not an object.")
    groups = issuer.groups_claim if isinstance(issuer, OidcIssuer) else "groups"
    return groups in elsewhere or claims.get("hasgroups") in (True, "true")


def _oidc(issuer: OidcIssuer, claims: Claims) -> Principal:
    subject = _required(claims, "sub")
    return Principal(
        id=f"{issuer.url}#{subject}",
        name=_first(claims, (issuer.name_claim, "preferred_username", "email")) or subject,
        kind=issuer.kind,
        issuer=issuer.url,
        subject=subject,
        groups=_texts(claims, issuer.groups_claim),
        claims=_kept(claims, ("azp", "client_id")),
    )


def _entra(issuer: EntraIssuer, claims: Claims) -> Principal:
    # `sub` differs per application; only tenant and object id name the same person everywhere.
    tenant, subject = _required(claims, "tid"), _required(claims, "oid")
    if tenant.lower() != issuer.tenant:
        raise refused(Code.IDENTITY_CLAIMS, "The token's tenant (tid) is not the tenant of its issuer.")
    kind = _entra_kind(claims)
    names = _ENTRA_PERSON_NAMES if kind == "person" else _ENTRA_WORKLOAD_NAMES
    application = _first(claims, ("azp", "appid"))
    return Principal(
        id=f"entra:{issuer.tenant}:{subject}",
        name=_first(claims, names) or subject,
        kind=kind,
        issuer=issuer.url,
        subject=subject,
        groups=_texts(claims, "groups"),
        roles=_texts(claims, "roles"),
        claims={"tid": issuer.tenant} | ({"appid": application} if application else {}),
    )


def _entra_kind(claims: Claims) -> Literal["person", "workload"]:
    """Tell an application's own token from a person's: `idtyp` where it was asked for, else the traces of a user.

    When in doubt it is a workload, which may do less: a public client (`appidacr` or `azpacr` "0") has no own token.
    """
    if (kind := _text(claims, "idtyp")) is not None:
        return "person" if kind == "user" else "workload"
    if _first(claims, ("scp", "preferred_username", "upn", "unique_name")):
        return "person"
    return "person" if _first(claims, ("azpacr", "appidacr")) == "0" else "workload"


def _actions(issuer: ActionsIssuer, claims: Claims) -> Principal:
    subject, owner = _required(claims, "sub"), _required(claims, "repository_owner")
    if owner.lower() not in issuer.repository_owners:
        raise refused(Code.IDENTITY_CLAIMS, "Workflows of this repository owner may not use this gateway.")
    return Principal(
        id=f"{issuer.url}#{subject}",
        name=_text(claims, "actor") or subject,
        kind="workload",
        issuer=issuer.url,
        subject=subject,
        claims=_kept(claims, _ACTIONS_CLAIMS),
    )


def _kept(claims: Claims, names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name in names if (value := _text(claims, name))}


def _first(claims: Claims, names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := _text(claims, name))), None)


def _required(claims: Claims, name: str) -> str:
    value = _text(claims, name)
    if not value:
        raise refused(Code.IDENTITY_CLAIMS, f"The token has no {name} claim.")
    return value


def _text(claims: Claims, name: str) -> str | None:
    return _safe(claims[name], name) if name in claims else None


def _texts(claims: Claims, name: str) -> frozenset[str]:
    values = claims.get(name, [])
    if not isinstance(values, list):
        raise refused(Code.IDENTITY_CLAIMS, f"The token's {name} claim is not a list of strings.")
    return frozenset(_safe(value, name) for value in values)


def _safe(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_CLAIM_CHARACTERS or _UNSAFE.search(value):
        raise refused(Code.IDENTITY_CLAIMS, f"The token's {name} claim is not plain text, or is too long.")
    return value
