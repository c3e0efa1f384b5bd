from __future__ import annotations

import asyncio
from pathlib import Path

import keyring
import msgspec
import pytest
from aiohttp import web

from extproc.secret import Secret
from extproc.signin import current
from extproc.signin.current import current_profile, source_before_sign_in
from extproc.signin.kept import SignIn, keeper_of
from extproc.signin.profile import Profile
from tests.signin.serving import NO_KEYRING, Answering, answering


async def after_a_sign_in(home: Path, told: Answering, **changes: str) -> tuple[Profile, Profile]:
    """Sign in for a gateway that now answers `told`; return the profile that is kept, and the current one."""
    keyring.set_keyring(NO_KEYRING)
    async with answering(told) as url:
        kept = Profile(gateway=url, issuer="https://i.example", client_id="mine", scopes=("s",), proxy="https://p:1")
        kept = msgspec.structs.replace(kept, **changes)
        environ = {"HOME": str(home)}
        keeper_of(environ).save(SignIn(kept, "alice", Secret("t.o.k"), None, 0.0, 1.0))
        return kept, await asyncio.to_thread(current_profile, environ)


def telling(**changes: object) -> Answering:
    async def answer(request: web.Request) -> web.Response:
        told = {"gateway": f"http://{request.host}", "issuer": "https://i.example", "client_id": "theirs"}
        return web.json_response({**told, "proxy": "https://p:2", "ca_pem": "PEM", **changes})

    return answer


async def test_the_proxy_and_the_authority_are_those_of_today_and_the_rest_is_the_sign_ins(tmp_path: Path) -> None:
    kept, found = await after_a_sign_in(tmp_path, telling())
    assert found == msgspec.structs.replace(kept, proxy="https://p:2", ca_pem="PEM")


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"gateway": "https://other.example"},
        {"proxy": "http://other.example:3128"},
        {"client_id": ""},
        {"ca_pem": 7},
    ],
)
async def test_a_profile_of_another_sign_in_or_none_that_may_be_followed_changes_nothing(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    kept, found = await after_a_sign_in(tmp_path, telling(**changes))
    assert found == kept


async def test_a_gateway_that_is_away_or_slow_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, found = await after_a_sign_in(tmp_path, telling(), gateway="http://127.0.0.1:1")
    assert found == kept
    monkeypatch.setattr(current, "LOOK_SECONDS", 0.05)
    asked = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    kept, found = await after_a_sign_in(tmp_path, slow)
    assert (found, asked.is_set()) == (kept, True)


async def test_an_authority_that_is_none_any_more_is_kept(tmp_path: Path) -> None:
    kept, found = await after_a_sign_in(tmp_path, telling(), ca_pem="nothing")
    assert found == kept


def test_the_first_source_that_goes_before_a_sign_in_is_named() -> None:
    assert source_before_sign_in({"HOME": "/x", "EXTPROC_TOKEN": ""}) is None
    assert source_before_sign_in({"AZURE_FEDERATED_TOKEN_FILE": "/f"}) == "AZURE_FEDERATED_TOKEN_FILE"
    assert source_before_sign_in({"AZURE_FEDERATED_TOKEN_FILE": "/f", "EXTPROC_TOKEN": "t"}) == "EXTPROC_TOKEN"
