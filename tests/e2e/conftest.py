from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e import tunnels
from tests.e2e.gateway import Gateway
from tests.e2e.upstream import plain


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def far() -> AsyncIterator[tunnels.Far]:
    """Where all tunnels lead whose hosts the gateway does not read."""
    async with tunnels.Far().listening() as one:
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway(far: tunnels.Far) -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.prepare(tunnels.leading_to(far.port))
    tunnels.list_hosts(gateway, tunnels.LISTED)
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The gateway that all tests share which leave it as they found it."""
    shared_gateway.upstream.play(plain)
    return shared_gateway


@pytest_asyncio.fixture(loop_scope="session")
async def own_gateway() -> AsyncIterator[Gateway]:
    """A gateway that a test may break; prepared, not started."""
    gateway = Gateway()
    yield gateway
    await gateway.stop()
