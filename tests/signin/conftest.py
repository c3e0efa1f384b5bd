from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from extproc.dev.idp import make_app
from extproc.dev.keys import SigningKey, load_or_create
from extproc.dev.users import DEMO_USERS
from extproc.signin.kept import Keeper
from extproc.signin.profile import Profile
from tests.signin.serving import Clock, Idp, serving


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return load_or_create(Path(tmp_path_factory.mktemp("idp")) / "key.pem")


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
async def idp(key: SigningKey, clock: Clock) -> AsyncIterator[Idp]:
    listening = socket.create_server(("127.0.0.1", 0))
    made = Idp(f"http://127.0.0.1:{listening.getsockname()[1]}", Clock(clock.now))
    app = make_app(key, issuer=made.url, audience="gateway", users=DEMO_USERS, now=made.clock)

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        made.asked.append((request.path, response.status))

    app.on_response_prepare.append(note)
    async with serving(app, listening):
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as made:
        yield made


@pytest.fixture
def profile(idp: Idp) -> Profile:
    return Profile(gateway="http://127.0.0.1:8080", issuer=idp.url, client_id="extproc-cli", scopes=("groups",))


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path / "copilot-extproc" / "sign-in.json", None)
