"""Make the containers where a key allows it; `extproc.store.cosmos_layout.az_commands` else."""

from __future__ import annotations

from azure.cosmos import PartitionKey, ThroughputProperties
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from extproc.errors import ConfigError
from extproc.store.cosmos import CosmosSettings, client
from extproc.store.cosmos_layout import DEFAULT_TTL, RECORD, Layout, drift
from extproc.store.cosmos_reader import explained


def provision(settings: CosmosSettings, layout: Layout = RECORD, *, max_throughput: int | None = None) -> list[str]:
    """Create database and container where they are missing; return in words what of a present container is not right.

    `max_throughput` are the request units per second that autoscale may use (1000 or more), None for serverless
    accounts. Nothing that is there is changed. Raises ConfigError without a key, and StoreUnavailable.
    """
    if settings.key is None:
        raise ConfigError("only a key may make databases and containers from here: use the commands that are printed")
    offer = None if max_throughput is None else ThroughputProperties(auto_scale_max_throughput=max_throughput)
    with explained():
        opened = client(settings, None)
    try:
        with explained():
            container = opened.create_database_if_not_exists(settings.database).get_container_client(settings.container)
            try:
                return drift(container.read(), layout)
            except CosmosResourceNotFoundError:
                opened.get_database_client(settings.database).create_container(
                    settings.container,
                    partition_key=PartitionKey(path=layout.partition_key),
                    indexing_policy=dict(layout.indexing_policy),
                    default_ttl=DEFAULT_TTL,
                    offer_throughput=offer,
                )
            return drift(container.read(), layout)
    finally:
        opened.close()
