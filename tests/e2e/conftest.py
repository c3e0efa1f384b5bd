from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.gateway import Gateway
from tests.e2e.upstream import plain


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.prepare()
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
