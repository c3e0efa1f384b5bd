from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from extproc.credential import CredentialSpec, ExchangeSpec
from extproc.credentials.provider import Credentials, CredentialState
from extproc.echo import without_secrets
from extproc.endpoint import Upstream
from extproc.errors import Code, ConfigError, Refused

if TYPE_CHECKING:
    from tests.credentials.conftest import Clock, GitHub

GITHUB_TOKEN = "ghu_0123456789abcdef"
ENVIRON = {"TOKEN": GITHUB_TOKEN}

Make = Callable[..., Credentials]


@pytest.fixture
async def make(clock: Clock, session: aiohttp.ClientSession) -> AsyncIterator[Make]:
    made = []

    def make(*specs: CredentialSpec, environ: Mapping[str, str] = ENVIRON) -> Credentials:
        made.append(Credentials(specs, environ=environ, session=session, now=clock))
        return made[-1]

    yield make
    for credentials in made:
        await credentials.aclose()


def exchanging(github: GitHub, **changes: object) -> CredentialSpec:
    fields: dict[str, Any] = {"name": "a", "env": "TOKEN", "exchange": ExchangeSpec(url=github.url), **changes}
    return CredentialSpec(**fields)


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
async def test_a_github_token_is_used_as_it_is_with_the_configured_scheme_and_headers(make: Make, scheme: str) -> None:
    headers, missing = {"copilot-integration-id": "x"}, {"editor-version": "y"}
    spec = CredentialSpec("a", env="TOKEN", scheme=scheme, headers=headers, headers_if_missing=missing)
    credential = await make(spec).get("a", Upstream.COPILOT_API)
    assert credential.authorization.reveal() == f"{scheme} {GITHUB_TOKEN}"
    assert (credential.headers, credential.headers_if_missing) == (headers, missing)
    assert credential.api_host is None
    assert [secret.reveal() for secret in credential.secrets] == [GITHUB_TOKEN]


@pytest.mark.parametrize("upstream", [Upstream.COPILOT_API, Upstream.COPILOT_PROXY])
async def test_copilot_gets_the_exchanged_token(make: Make, github: GitHub, upstream: Upstream) -> None:
    credential = await make(exchanging(github, scheme="token")).get("a", upstream)
    token = credential.secrets[1].reveal()
    assert token.startswith("tid=exchanged1;")
    assert credential.authorization.reveal() == f"Bearer {token}"
    assert credential.secrets[0].reveal() == GITHUB_TOKEN
    assert credential.api_host == ("api.individual.githubcopilot.com" if upstream is Upstream.COPILOT_API else None)


async def test_github_s_own_api_gets_the_github_token_without_any_exchange(make: Make, github: GitHub) -> None:
    credential = await make(exchanging(github)).get("a", Upstream.GITHUB_API)
    assert credential.authorization.reveal() == f"Bearer {GITHUB_TOKEN}"
    assert github.authorizations == []


async def test_a_credential_is_refused_to_an_upstream_it_is_not_for(make: Make, github: GitHub) -> None:
    credentials = make(exchanging(github, upstreams=frozenset({Upstream.COPILOT_API})))
    for upstream in (Upstream.GITHUB_API, Upstream.COPILOT_PROXY):
        with pytest.raises(Refused, match=f"it is not for {upstream}"):
            await credentials.get("a", upstream)
    assert github.authorizations == []


async def test_an_unknown_name_is_refused(make: Make) -> None:
    with pytest.raises(Refused, match="no credential of that name") as caught:
        await make().get("nobody", Upstream.COPILOT_API)
    assert caught.value.refusal.code is Code.CREDENTIAL_UNAVAILABLE


async def test_two_credentials_of_one_name_are_a_configuration_error(make: Make) -> None:
    with pytest.raises(ConfigError, match="'a' is configured twice"):
        make(CredentialSpec("a", env="TOKEN"), CredentialSpec("a", env="OTHER"))


async def test_a_rotated_file_is_exchanged_anew(make: Make, github: GitHub, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(GITHUB_TOKEN)
    credentials = make(exchanging(github, env=None, file=path))
    before = await credentials.get("a", Upstream.COPILOT_API)
    path.write_text(f"{GITHUB_TOKEN}-rotated")
    after = await credentials.get("a", Upstream.COPILOT_API)
    assert github.authorizations == [f"token {GITHUB_TOKEN}", f"token {GITHUB_TOKEN}-rotated"]
    assert after.authorization != before.authorization
    assert after.secrets[0].reveal() == f"{GITHUB_TOKEN}-rotated"
    assert credentials.state()["a"].refreshed == 2


async def test_how_a_credential_stands_is_told_of_those_that_are_exchanged(
    make: Make, github: GitHub, clock: Clock
) -> None:
    credentials = make(exchanging(github), CredentialSpec("raw", env="TOKEN"))
    assert credentials.state() == {"a": CredentialState(refreshed=0, failed=0, expires=None)}
    await credentials.get("a", Upstream.COPILOT_API)
    state = credentials.state()["a"]
    assert (state.refreshed, state.failed) == (1, 0)
    assert state.expires is not None
    clock.seconds = state.expires
    github.answer = lambda: web.Response(status=500)
    with pytest.raises(Refused):
        await credentials.get("a", Upstream.COPILOT_API)
    assert credentials.state()["a"] == CredentialState(refreshed=1, failed=1, expires=state.expires)


async def test_a_file_that_was_touched_but_holds_the_same_token_is_not_exchanged_again(
    make: Make, github: GitHub, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(GITHUB_TOKEN)
    credentials = make(exchanging(github, env=None, file=path))
    await credentials.get("a", Upstream.COPILOT_API)
    path.write_text(f"{GITHUB_TOKEN}\n")
    await credentials.get("a", Upstream.COPILOT_API)
    assert len(github.authorizations) == 1


async def test_a_removed_file_stops_a_token_that_was_exchanged_before(
    make: Make, github: GitHub, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(GITHUB_TOKEN)
    credentials = make(exchanging(github, env=None, file=path))
    await credentials.get("a", Upstream.COPILOT_API)
    path.unlink()
    with pytest.raises(Refused, match="cannot be read"):
        await credentials.get("a", Upstream.COPILOT_API)


async def test_a_token_that_changes_during_an_exchange_does_not_get_the_answer_of_the_old_one(
    make: Make, github: GitHub
) -> None:
    environ = dict(ENVIRON)
    credentials = make(exchanging(github), environ=environ)
    github.let_go.clear()
    old = asyncio.ensure_future(credentials.get("a", Upstream.COPILOT_API))
    await github.arrived.wait()
    environ["TOKEN"] = f"{GITHUB_TOKEN}-new"
    new = asyncio.ensure_future(credentials.get("a", Upstream.COPILOT_API))
    github.let_go.set()
    old_secrets, new_secrets = (await old).secrets, (await new).secrets
    assert old_secrets[0].reveal() == GITHUB_TOKEN
    assert new_secrets[0].reveal() == f"{GITHUB_TOKEN}-new"
    assert old_secrets[1] != new_secrets[1]
    assert (await credentials.get("a", Upstream.COPILOT_API)).secrets == new_secrets


async def test_credentials_are_exchanged_apart(make: Make, github: GitHub) -> None:
    specs = (exchanging(github), exchanging(github, name="b", env="OTHER"))
    credentials = make(*specs, environ={**ENVIRON, "OTHER": "ghu_other_token"})
    await credentials.get("a", Upstream.COPILOT_API)
    await credentials.get("b", Upstream.COPILOT_API)
    assert github.authorizations == [f"token {GITHUB_TOKEN}", "token ghu_other_token"]


async def test_closing_ends_an_exchange_under_way(make: Make, github: GitHub) -> None:
    credentials = make(exchanging(github))
    github.let_go.clear()
    waiting = asyncio.ensure_future(credentials.get("a", Upstream.COPILOT_API))
    await github.arrived.wait()
    await credentials.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_everything_a_credential_carries_can_be_masked(make: Make, github: GitHub) -> None:
    credential = await make(exchanging(github)).get("a", Upstream.COPILOT_API)
    echoed = without_secrets(credential.authorization.reveal() + GITHUB_TOKEN, credential.secrets)
    assert echoed == "Bearer " + 2 * "[MASKED:gateway-credential]"


async def test_secrets_are_in_no_text_of_ours(make: Make, github: GitHub, caplog: pytest.LogCaptureFixture) -> None:
    spec = exchanging(github)
    credentials = make(spec)
    credential = await credentials.get("a", Upstream.COPILOT_API)
    github.answer = lambda: web.json_response(github.envelope(endpoints={"api": "https://evil.example"}))
    with pytest.raises(Refused) as caught:
        await make(spec).get("a", Upstream.COPILOT_API)
    error = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    texts = [repr(credentials), repr(spec), repr(credential), str(credential), error, repr(caught.value), caplog.text]
    assert "evil" not in error
    for text in texts:
        assert GITHUB_TOKEN not in text
        assert "tid=" not in text
