from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from extproc.errors import ConfigError, ExtprocError
from extproc.secret import Secret
from extproc.signin.workload import checked_token, token_of_file, workload_token
from tests.signin.serving import answering

TENANT = "11111111-2222-3333-4444-555555555555"
RUNNER = "runner-credential"


async def actions(request: web.Request) -> web.Response:
    """Answer as the runner's token service does: strict about the credential, generous about nothing."""
    if request.headers.getall("Authorization") != [f"bearer {RUNNER}"]:
        return web.json_response({"message": "not yours"}, status=401)
    assert (request.method, request.path) == ("GET", "/_apis/idtoken")
    assert request.query["api-version"] == "2.0"
    return web.json_response({"count": 1, "value": f"for.{request.query['audience']}.x"})


def of_actions(url: str) -> dict[str, str]:
    asked = f"{url}/_apis/idtoken?api-version=2.0"
    return {"ACTIONS_ID_TOKEN_REQUEST_URL": asked, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": RUNNER}


async def entra(request: web.Request) -> web.Response:
    """Answer as Entra's token endpoint does for a federated credential."""
    form = await request.post()
    if request.path != f"/{TENANT}/oauth2/v2.0/token" or request.method != "POST":
        return web.json_response({"error": "invalid_tenant"}, status=400)
    if form.get("grant_type") != "client_credentials" or "client_secret" in form:
        return web.json_response({"error": "unsupported_grant_type"}, status=400)
    jwt_bearer = form.get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    if form.get("client_id") != "app-id" or not jwt_bearer or form.get("client_assertion") != "pod.token.1":
        text = "AADSTS700016: not found in the directory.\r\nTrace ID: 0"
        return web.json_response({"error": "invalid_client", "error_description": text}, status=401)
    scope = str(form.get("scope"))
    if not scope.endswith("/.default"):
        return web.json_response({"error": "invalid_scope"}, status=400)
    token = f"for.{scope.removesuffix('/.default').replace('/', '_')}.x"
    return web.json_response({"token_type": "Bearer", "expires_in": 86399, "access_token": token})


@pytest.fixture
def pod(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text("pod.token.1")
    return {
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        "AZURE_CLIENT_ID": "app-id",
        "AZURE_TENANT_ID": TENANT,
    }


async def test_a_machine_that_is_no_workload_has_no_token(session: aiohttp.ClientSession) -> None:
    environ = {"HOME": "/home/a", "ACTIONS_ID_TOKEN_REQUEST_URL": "", "AZURE_CLIENT_ID": "only-this"}
    assert await workload_token(environ, "gateway", session) is None


# --- GitHub Actions --------------------------------------------------------------------------------------------------


async def test_a_job_gets_the_runners_token_for_our_audience(session: aiohttp.ClientSession) -> None:
    async with answering(actions) as url:
        assert await workload_token(of_actions(url), "gateway", session) == Secret("for.gateway.x")


async def test_an_audience_is_one_parameter_whatever_it_holds(session: aiohttp.ClientSession) -> None:
    seen = []

    async def note(request: web.Request) -> web.Response:
        seen.append(list(request.query.items()))
        return await actions(request)

    async with answering(note) as url:
        # The answer is then no token; what counts is what was asked.
        with pytest.raises(ExtprocError, match="GitHub Actions gave no token"):
            await workload_token(of_actions(url), "api://a b&audience=c#", session)
    assert seen == [[("api-version", "2.0"), ("audience", "api://a b&audience=c#")]]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "other"}, ExtprocError),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": ""}, ConfigError),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "a\r\nX-Other: b"}, ConfigError),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "http://runner.example/?a=b"}, ConfigError),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:1/?a=b"}, ExtprocError),
    ],
)
async def test_a_job_without_the_right_credential_gets_none(
    session: aiohttp.ClientSession, changes: dict[str, str], kind: type[ExtprocError]
) -> None:
    async with answering(actions) as url:
        with pytest.raises(kind) as refused:
            await workload_token({**of_actions(url), **changes}, "gateway", session)
    assert type(refused.value) is kind
    assert RUNNER not in str(refused.value)


@pytest.mark.parametrize("answer", [{}, {"value": None}, {"value": "a\nb"}, {"value": ""}])
async def test_an_answer_without_a_token_is_told(session: aiohttp.ClientSession, answer: dict[str, Any]) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    async with answering(handler) as url:
        with pytest.raises(ExtprocError, match="the answer holds none"):
            await workload_token(of_actions(url), "gateway", session)


# --- Azure workload identity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_pod_exchanges_its_token_for_one_of_our_audience(
    session: aiohttp.ClientSession, pod: dict[str, str], slash: str
) -> None:
    async with answering(entra) as url:
        found = await workload_token({**pod, "AZURE_AUTHORITY_HOST": url + slash}, "api://gw", session)
    assert found == Secret("for.api:__gw.x")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"AZURE_CLIENT_ID": ""}, "AZURE_FEDERATED_TOKEN_FILE is set, but not AZURE_CLIENT_ID$"),
        ({"AZURE_CLIENT_ID": "", "AZURE_TENANT_ID": ""}, "not AZURE_CLIENT_ID and AZURE_TENANT_ID$"),
        ({"AZURE_TENANT_ID": "../common"}, "AZURE_TENANT_ID is neither"),
        ({"AZURE_AUTHORITY_HOST": "http://login.example/"}, "AZURE_AUTHORITY_HOST must be an https URL"),
        ({"AZURE_FEDERATED_TOKEN_FILE": "/nowhere/token"}, r"/nowhere/token: the token file cannot be read"),
        ({"AZURE_CLIENT_ID": "other"}, r"Entra gave the workload no token: invalid_client: AADSTS700016.*Trace"),
        ({"AZURE_TENANT_ID": "common"}, "Entra gave the workload no token: invalid_tenant"),
        ({"AZURE_AUTHORITY_HOST": "http://127.0.0.1:1"}, "Entra gave the workload no token: the request failed"),
    ],
)
async def test_a_pod_that_is_not_set_up_is_told_what_is_wrong(
    session: aiohttp.ClientSession, pod: dict[str, str], changes: dict[str, str], why: str
) -> None:
    async with answering(entra) as url:
        with pytest.raises(ExtprocError, match=why) as refused:
            await workload_token({**pod, "AZURE_AUTHORITY_HOST": url, **changes}, "gw", session)
    assert "pod.token" not in str(refused.value)


# --- a file ----------------------------------------------------------------------------------------------------------


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text in ("a.b.c", "d.e.f\n"):
        file.write_text(text)
        assert token_of_file(file) == Secret(text.strip())


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\nb", b"a\xff"])
def test_a_file_without_one_token_is_named_and_its_content_is_not(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        token_of_file(file)
    assert str(refused.value) == f"{file}: expected one token on one line"


def test_what_is_no_token_is_named_by_its_source() -> None:
    assert checked_token(" a.b.c ", "EXTPROC_TOKEN") == Secret("a.b.c")
    with pytest.raises(ConfigError, match=r"^EXTPROC_TOKEN: expected one token on one line$"):
        checked_token("hunter2 hunter3", "EXTPROC_TOKEN")
