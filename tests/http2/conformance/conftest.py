from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.http2.conformance.serving import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server on a socket; after the test every call must have been told how it ended."""
    async with serving() as one:
        yield one
