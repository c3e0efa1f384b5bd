from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.needing import not_tested
from tests.pods import gateway, image, workload
from tests.pods.cluster import Cluster
from tests.pods.network import missing_tools, refused
from tests.pods.workload import Running


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Namespaces need root; whoever is root, and in CI, must have the tools for them, too."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: pods in network namespaces (no way around, rolling restarts): they need root")
    if missing := missing_tools():
        not_tested(
            f"pods in network namespaces: {', '.join(missing)} missing (iproute2, nftables, kubectl, openssl, curl)"
        )
    if closed := image.closed():
        not_tested(f"pods in network namespaces: users other than root cannot read {', '.join(closed)}")
    if why := refused():
        not_tested(f"pods in network namespaces: this machine does not let root make them: {why}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(namespaces: None) -> AsyncIterator[Running]:
    """The rendered gateway with two pods, and a team's pod."""
    cluster = Cluster(gateway.objects())
    try:
        await cluster.start_outside()
        await gateway.start(cluster, pods=2)
        yield Running(cluster, await workload.start(cluster))
    finally:
        await cluster.stop()
