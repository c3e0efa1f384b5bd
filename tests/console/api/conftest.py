from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extproc.approval.approval import Request
from extproc.dev import files
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import request
from tests.console.api.serving import prepared, record, serving, token
from tests.issuing import dev_issuer

BASE = "/api/v1"


class Api:
    """The API on a port of its own, the store of approvals that it reads, and a client."""

    def __init__(self, state: Path, url: str, store: SqliteApprovals, session: aiohttp.ClientSession) -> None:
        self.state = state
        self.url = url
        self.store = store
        self.session = session
        self.issuer = files.ports_of(state).issuer_url

    async def ask(self, approval_id: str, **changes: Any) -> Request:
        """Let something wait for approval."""
        now = time.time()
        one = request(approval_id, **{"requested_at": now, "expires_at": now + 900, **changes})
        await self.store.request(one)
        return one

    async def call(self, method: str, path: str, user: str | None = "bob", **options: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer; `path` is below /api/v1 unless it is a whole one."""
        headers = {} if user is None else {"authorization": f"Bearer {token(self.state, user)}"}
        headers |= options.pop("headers", {})
        url = self.url + (path if path.startswith("/api/") or path == "/nothing" else BASE + path)
        async with self.session.request(method, url, headers=headers, **options) as answer:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert ("www-authenticate" in answer.headers) is (answer.status == 401)
            return answer.status, await answer.json()

    async def get(self, path: str, user: str = "alice") -> Any:
        """Return the JSON of an answer that is none of an error."""
        status, body = await self.call("GET", path, user)
        assert status == 200, body
        return body


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the development issuer of a state directory; return the directory."""
    state = tmp_path_factory.mktemp("dev") / "state"
    with dev_issuer(state):
        yield state


@pytest.fixture
def state(tmp_path: Path, issuer: Path) -> Path:
    folder = prepared(issuer, tmp_path / "state")
    record(folder)
    return folder


@pytest.fixture
async def api(state: Path) -> AsyncIterator[Api]:
    store = SqliteApprovals(state / "approvals.db", instance="gateway", now=time.time())
    with serving(state) as url:
        async with aiohttp.ClientSession() as session:
            yield Api(state, url, store, session)
    await store.aclose()
