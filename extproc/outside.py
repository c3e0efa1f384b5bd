"""What exchanges need of the outside, and how long they may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from extproc.approval.approval import Approval
from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.credential import Credential
from extproc.endpoint import Upstream
from extproc.identity.principal import Principal
from extproc.metrics import Metrics
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.store.port import Recorder


class Identities(Protocol):
    """Verify tokens."""

    def cached(self, token: Secret) -> Principal | None:
        """Return the principal of a token verified a short while ago, without waiting."""
        ...

    async def verify(self, token: Secret) -> Principal:
        """Return the principal of a token; raises `Refused`."""
        ...


class CredentialSource(Protocol):
    """Supply upstream credentials."""

    def ready(self, name: str, upstream: Upstream) -> Credential | None:
        """Return the named credential where nothing has to be waited for; raises `Refused`."""
        ...

    async def get(self, name: str, upstream: Upstream) -> Credential:
        """Return the named credential for an upstream; raises `Refused`."""
        ...


class Approvers(Protocol):
    """Ask approvers."""

    async def wait(self, request: ApprovalRequest) -> Approval | NotHeld:
        """Return how it ended; a cancelled caller withdraws it. Raises `StoreUnavailable`."""
        ...

    async def aclose(self) -> None:
        """End what waits as interrupted, and refuse what comes."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how many; seconds where not said otherwise."""

    max_exchanges: int
    idle_seconds: float
    total_seconds: float
    drain_seconds: float
    sign_of_life_seconds: float = 10.0
    """How often a client hears something while approvers are asked; some give up after 30 s of silence."""
    end_reason_seconds: float = 1.0
    """How long to wait for Envoy's access log to say who ended an exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything around the exchanges of one process; `now` tells unix seconds."""

    rules: Rules
    identities: Identities
    credentials: CredentialSource
    approvers: Approvers
    recorder: Recorder
    metrics: Metrics
    bounds: Bounds
    now: Callable[[], float]
