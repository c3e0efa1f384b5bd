"""The settings of the console: where browsers reach it, how people sign in, and who may see what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from extproc.config_recording import Url


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _origin(url: str) -> str:
    """Return the address without its last slash; pages are at its root, and so is their cookie."""
    if urlsplit(url).path.strip("/"):
        raise ValueError("expected an address without a path")
    return url.rstrip("/")


def _service(url: str) -> str:
    """Return the base address of a service's `operations`, which speaks plain HTTP within the cluster."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
        raise ValueError("expected an address such as http://extproc-0.extproc:9464")
    return url.rstrip("/")


Service = Annotated[str, AfterValidator(_service)]
Origin = Annotated[Url, AfterValidator(_origin)]


class ConsoleSignIn(_Model):
    """The client that people sign in with; the issuer must be one of `issuers`."""

    issuer: Url
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = None
    scopes: list[str] = []
    use: Literal["access_token", "id_token"] = "access_token"


class RoleSettings(_Model):
    """Which groups have which role; approvers are those whom the policy names."""

    developer: list[str] | None = Field(None, description="Who sees their own sessions; null: whoever is verified.")
    auditor: list[str] = []
    administrator: list[str] = []


class ConsoleSettings(_Model):
    """The console; without `sign_in` it has no pages, and only its REST API is served."""

    url: Origin = "http://127.0.0.1:8088"
    sign_in: ConsoleSignIn | None = None
    roles: RoleSettings = RoleSettings()
    session_seconds: float = Field(8 * 3600, gt=0, description="How long a sign-in is good for.")
    idle_seconds: float = Field(3600, gt=0, description="Silence after which one is signed out.")
    services: list[Service] | None = Field(
        None, description="Base addresses of the services' `operations`; null: the one of these settings."
    )
