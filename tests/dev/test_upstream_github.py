from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from extproc.dev.upstream import make_app
from extproc.dev.upstream_github import Credentials

NOW = 1_800_000_000.0
GITHUB = {"Authorization": "token gho_good"}


@pytest.fixture
async def upstream() -> AsyncIterator[TestClient[Any, Any]]:
    app = make_app(lambda: {"gho_good"}, delay_seconds=0, now=lambda: NOW)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def _get(upstream: TestClient[Any, Any], path: str, host: str = "127.0.0.1:1") -> Any:
    response = await upstream.get(path, headers=GITHUB | {"Host": host})
    assert response.status == 200
    return await response.json()


@pytest.mark.parametrize("header", ["Bearer gho_good", "bearer gho_good", "token gho_good", "TOKEN  gho_good"])
def test_a_github_token_is_good_with_either_scheme_in_any_case(header: str) -> None:
    credentials = Credentials(lambda: {"gho_good"}, lambda: NOW)
    assert credentials.is_github(header)
    assert credentials.is_copilot(header)


@pytest.mark.parametrize(
    "header", ["", "gho_good", "Basic gho_good", "Bearer gho_bad", "Bearer gho_good x", "Bearer é", "Bearer :"]
)
def test_anything_else_is_not(header: str) -> None:
    credentials = Credentials(lambda: {"gho_good"}, lambda: NOW)
    assert not credentials.is_github(header)
    assert not credentials.is_copilot(header)


def test_the_accepted_tokens_are_asked_for_each_time() -> None:
    accepted = {"old"}
    credentials = Credentials(lambda: accepted, lambda: NOW)
    assert credentials.is_github("Bearer old")
    accepted.clear()
    assert not credentials.is_github("Bearer old")


def test_an_exchanged_token_is_good_as_bearer_for_copilot_until_it_expires() -> None:
    now = NOW
    credentials = Credentials(set, lambda: now)
    token, expires_at = credentials.exchange()
    assert expires_at == NOW + 1800
    assert credentials.is_copilot(f"Bearer {token}")
    assert not credentials.is_copilot(f"token {token}")
    assert not credentials.is_github(f"Bearer {token}")
    now = expires_at
    assert not credentials.is_copilot(f"Bearer {token}")


def test_a_changed_or_foreign_exchanged_token_is_refused() -> None:
    credentials = Credentials(set, lambda: NOW)
    token, expires_at = credentials.exchange()
    longer = token.replace(f"exp={expires_at}", f"exp={expires_at + 1}")
    for bad in (longer, token[:-1], token.rpartition(":")[0], Credentials(set, lambda: NOW).exchange()[0]):
        assert not credentials.is_copilot(f"Bearer {bad}")


async def test_the_exchange_gives_a_token_that_the_copilot_api_takes(upstream: TestClient[Any, Any]) -> None:
    answer = await _get(upstream, "/copilot_internal/v2/token")
    assert answer["token"].startswith("tid=")
    assert f";exp={answer['expires_at']};" in answer["token"]
    assert (answer["expires_at"], answer["refresh_in"]) == (NOW + 1800, 1500)
    assert answer["endpoints"] == dict.fromkeys(("api", "proxy", "telemetry"), "http://127.0.0.1:1")
    bearer = {"Authorization": f"Bearer {answer['token']}"}
    assert (await upstream.get("/models", headers=bearer)).status == 200
    assert (await upstream.get("/user", headers=bearer)).status == 401
    assert (await upstream.get("/copilot_internal/v2/token", headers=bearer)).status == 401


async def test_the_copilot_user_names_a_plan_its_quotas_and_the_api(upstream: TestClient[Any, Any]) -> None:
    answer = await _get(upstream, "/copilot_internal/user")
    assert (answer["copilot_plan"], answer["endpoints"]["api"]) == ("business", "http://127.0.0.1:1")
    assert {name: quota["unlimited"] for name, quota in answer["quota_snapshots"].items()} == {
        "chat": True,
        "completions": True,
        "premium_interactions": True,
    }


@pytest.mark.parametrize("path", ["/copilot_internal/user", "/copilot_internal/v2/token"])
async def test_who_takes_the_upstream_for_github_is_sent_to_the_hosts_of_the_plan(
    upstream: TestClient[Any, Any], path: str
) -> None:
    assert (await _get(upstream, path, "api.github.com"))["endpoints"] == {
        "api": "https://api.business.githubcopilot.com",
        "proxy": "https://proxy.business.githubcopilot.com",
        "telemetry": "https://telemetry.business.githubcopilot.com",
    }


async def test_nothing_is_excluded_of_each_repository_that_is_asked_for(upstream: TestClient[Any, Any]) -> None:
    answer = await _get(
        upstream, "/copilot_internal/content_exclusion?repos=https://github.com/o/a,https://github.com/o/b"
    )
    assert [(entry["rules"], entry["scope"]) for entry in answer] == [([], "all")] * 2
    # Asked for what holds everywhere, the language server wants to hear something.
    assert len(await _get(upstream, "/copilot_internal/content_exclusion?scope=all")) == 1


async def test_lists_that_clients_read_as_they_start_have_what_they_look_for(upstream: TestClient[Any, Any]) -> None:
    assert await _get(upstream, "/copilot/mcp_registry") == {"mcp_registries": []}
    assert (await _get(upstream, "/embeddings/models"))["models"][0]["active"] is True
    [release] = await _get(upstream, "/repos/github/copilot-cli/releases?per_page=100")
    assert (release["tag_name"], release["prerelease"]) == ("v0.0.1", False)


async def test_a_repository_and_its_pull_requests_have_a_default_branch(upstream: TestClient[Any, Any]) -> None:
    repository = await _get(upstream, "/repos/octo/app")
    assert (repository["full_name"], repository["default_branch"]) == ("octo/app", "main")
    pull = await _get(upstream, "/repos/octo/app/pulls/7")
    assert (pull["number"], pull["base"]["ref"], pull["base"]["repo"]) == (7, "main", repository)


async def test_issues_are_a_list_that_names_the_repository(upstream: TestClient[Any, Any]) -> None:
    response = await upstream.get("/repos/octo/app/issues", headers=GITHUB)
    [issue] = await response.json()
    assert (issue["number"], "octo/app" in issue["body"]) == (1, True)


async def test_contents_are_a_file_in_base64_with_its_git_blob_id(upstream: TestClient[Any, Any]) -> None:
    answer = await _get(upstream, "/repos/octo/app/contents/infra/main.tf?ref=main")
    data = base64.b64decode(answer["content"])
    assert (answer["path"], answer["name"], answer["size"]) == ("infra/main.tf", "main.tf", len(data))
    assert answer["sha"] == hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


async def test_user_and_rate_limit_answer(upstream: TestClient[Any, Any]) -> None:
    assert (await _get(upstream, "/user"))["login"] == "demo-gateway"
    assert (await _get(upstream, "/rate_limit"))["resources"]["core"]["remaining"] == 5000
