"""The settings of who is trusted to say who is calling: token issuers of three kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extproc.errors import ConfigError
from extproc.identity import issuers
from extproc.identity.issuers import DEFAULT_ALGORITHMS, ENTRA_LOGIN_BASE, ENTRA_STS_BASE, GITHUB_ACTIONS_ISSUER, Issuer


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _IssuerModel(_Model):
    def trusted(self) -> list[Issuer]:
        """Return what to trust; raises ConfigError."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _trusts_something(self) -> Self:
        try:
            self.trusted()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class OidcSettings(_IssuerModel):
    """Any OpenID Connect issuer."""

    kind: Literal["oidc"]
    issuer: str
    audiences: list[str]
    algorithms: list[str] = sorted(DEFAULT_ALGORITHMS)
    jwks_url: str | None = None
    leeway_seconds: int = 60
    groups_claim: str = "groups"
    name_claim: str = "name"
    subjects: Literal["person", "workload"] = "person"

    def trusted(self) -> list[Issuer]:
        """Return what to trust."""
        return [
            issuers.oidc(
                self.issuer,
                audiences=self.audiences,
                algorithms=self.algorithms,
                jwks_url=self.jwks_url,
                leeway_seconds=self.leeway_seconds,
                groups_claim=self.groups_claim,
                name_claim=self.name_claim,
                kind=self.subjects,
            )
        ]


class GraphSettings(_Model):
    """The application that may ask Microsoft Graph for the groups of people who have too many for a token."""

    client_id: str
    client_secret_file: Path


class EntraSettings(_IssuerModel):
    """Microsoft Entra ID tenants."""

    kind: Literal["entra"]
    tenants: list[str]
    audiences: list[str]
    leeway_seconds: int = 60
    login_base: str = ENTRA_LOGIN_BASE
    sts_base: str = ENTRA_STS_BASE
    graph_base: str = "https://graph.microsoft.com"
    graph: GraphSettings | None = None

    def trusted(self) -> list[Issuer]:
        """Return what to trust."""
        return list(
            issuers.entra(
                self.tenants,
                audiences=self.audiences,
                login_base=self.login_base,
                sts_base=self.sts_base,
                leeway_seconds=self.leeway_seconds,
            )
        )


class ActionsSettings(_IssuerModel):
    """GitHub Actions workflows."""

    kind: Literal["github-actions"]
    repository_owners: list[str]
    audiences: list[str]
    issuer: str = GITHUB_ACTIONS_ISSUER
    leeway_seconds: int = 60

    def trusted(self) -> list[Issuer]:
        """Return what to trust."""
        return [
            issuers.github_actions(
                self.repository_owners, audiences=self.audiences, url=self.issuer, leeway_seconds=self.leeway_seconds
            )
        ]


IssuerSettings = Annotated[OidcSettings | EntraSettings | ActionsSettings, Field(discriminator="kind")]
