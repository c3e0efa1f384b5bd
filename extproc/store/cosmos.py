"""Where a store in Azure Cosmos DB for NoSQL is, and how it is spoken to.

The clients are the SDK's (azure-cosmos), with its retries of writes turned off: it sends a create again when a
connection breaks, waits where we cannot see it, and does not bound the whole. `extproc.store.cosmos_retry` does that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from azure.core.credentials import TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.cosmos import CosmosClient
from azure.cosmos.aio import CosmosClient as AsyncCosmosClient

from extproc.errors import ConfigError
from extproc.secret import Secret

# It warns at every attempt of a thread of its own, and of such threads that outlive a client; what matters is raised.
logging.getLogger("azure.cosmos").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class CosmosSettings:
    """Which container, and how long to wait for it; times in seconds.

    Without a `key` a credential is needed, which the caller makes (`DefaultAzureCredential` finds the workload
    identity of a pod). `preferred_locations` are names of regions, the nearest first. `endpoint_discovery` finds the
    account's regions and follows a failover; off only for servers that do not know their own address. `attempt_seconds`
    bounds one request, `patience_seconds` all attempts of a call together. Raises ConfigError.
    """

    endpoint: str
    database: str = "extproc"
    container: str = "recording"
    key: Secret | None = None
    preferred_locations: tuple[str, ...] = ()
    endpoint_discovery: bool = True
    connect_seconds: float = 3.0
    attempt_seconds: float = 10.0
    patience_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("https://", "http://")):
            raise ConfigError(f"expected the address of a Cosmos DB account, https://…, not {self.endpoint!r}")
        if self.endpoint.startswith("http://") and self.key is None:
            # The SDK refuses it, too: whoever reads a bearer token on the way has it.
            raise ConfigError(f"{self.endpoint} is not https: without a key, tokens are sent only over https")


def async_client(settings: CosmosSettings, credential: AsyncTokenCredential | None) -> AsyncCosmosClient:
    """Return a client for one event loop, not yet connected; the caller closes it. Raises ConfigError."""
    return AsyncCosmosClient(
        settings.endpoint, _secret(settings, credential), **_options(settings), **_NO_RETRIES, no_response_on_write=True
    )


def client(settings: CosmosSettings, credential: TokenCredential | None) -> CosmosClient:
    """Return a connected client for any thread; the caller closes it. Raises ConfigError and AzureError."""
    return CosmosClient(settings.endpoint, _secret(settings, credential), **_options(settings))


def _secret(settings: CosmosSettings, credential: Any) -> Any:  # noqa: ANN401 - the SDK takes a key or a credential
    if settings.key is not None:
        return settings.key.reveal()
    if credential is None:
        raise ConfigError(f"{settings.endpoint} needs a key or an identity")
    return credential


def _options(settings: CosmosSettings) -> dict[str, Any]:
    return {
        "enable_endpoint_discovery": settings.endpoint_discovery,
        "preferred_locations": list(settings.preferred_locations),
        "connection_timeout": settings.connect_seconds,
        "read_timeout": settings.attempt_seconds,
        # Else every character beyond ASCII is sent as six, and 700,000 of them are too large for an item.
        "enable_compact_utf8_item_writes": True,
        "user_agent_suffix": "copilot-extproc",
    }


# `retry_throttle_total` of 0 counts as not given (azure-cosmos 4.17).
_NO_RETRIES: Final[dict[str, Any]] = {
    "retry_total": 0,
    "retry_connect": 0,
    "retry_read": 0,
    "retry_status": 0,
    "retry_throttle_total": 1,
    "retry_throttle_backoff_max": 1,
}
