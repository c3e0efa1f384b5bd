from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from extproc.address import is_loopback
from extproc.credential import Credential, CredentialSpec, ExchangeSpec
from extproc.endpoint import API_UPSTREAMS, Upstream
from extproc.errors import ConfigError
from extproc.secret import Secret


def test_a_credential_needs_a_name_and_a_source_and_goes_to_the_apis_by_default() -> None:
    spec = CredentialSpec("team-a", file=Path("/run/secrets/copilot"))
    assert (spec.scheme, spec.exchange, spec.upstreams) == ("Bearer", None, API_UPSTREAMS)
    assert {*Upstream} - spec.upstreams == {Upstream.GITHUB_WEB, Upstream.TELEMETRY, Upstream.TUNNEL}


def test_the_default_exchange_is_github_s_and_allows_its_four_api_hosts() -> None:
    spec = ExchangeSpec()
    assert spec.url == "https://api.github.com/copilot_internal/v2/token"
    assert spec.scheme == "token"
    assert all(host.endswith("githubcopilot.com") for host in spec.allowed_hosts)
    assert len(spec.allowed_hosts) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "credential name: expected"),
        ({"name": "a b"}, "credential name: expected"),
        ({"name": "a" * 65}, "credential name: expected"),
        ({"env": None}, "'a': expected exactly one of `file` and `env`"),
        ({"env": ""}, "'a': expected exactly one of `file` and `env`"),
        ({"file": Path("/x")}, "'a': expected exactly one of `file` and `env`"),
        ({"scheme": "Basic"}, "'a': scheme: expected `Bearer` or `token`, got 'Basic'"),
        ({"scheme": "bearer"}, "'a': scheme: expected"),
        ({"upstreams": frozenset()}, "'a': upstreams: expected at least one"),
        ({"headers": {"Editor-Version": "x"}}, "'a': headers: expected a header name in lower case"),
        ({"headers": {":path": "/"}}, "'a': headers: expected a header name"),
        ({"headers": {"authorization": "x"}}, "authorization is not for a credential to set"),
        ({"headers": {"x-api-key": "x"}}, "x-api-key is not for a credential to set"),
        ({"headers": {"x-gateway-upstream": "x"}}, "x-gateway-upstream is not for a credential to set"),
        ({"headers": {"host": "x"}}, "host is not for a credential to set"),
        ({"headers_if_missing": {"content-length": "0"}}, "headers_if_missing: content-length is not for"),
        ({"headers_if_missing": {"editor-version": "a\r\nb: c"}}, "the value of editor-version is not visible"),
        ({"headers_if_missing": {"editor-version": ""}}, "the value of editor-version is not visible"),
        ({"headers_if_missing": {"editor-version": "é"}}, "the value of editor-version is not visible"),
    ],
)
def test_a_wrong_credential_is_refused_with_its_name_and_what_was_expected(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        CredentialSpec(**{"name": "a", "env": "TOKEN", **changes})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https:///path",
        "http://api.github.com/copilot_internal/v2/token",
        "http://127.0.0.1.evil.example/token",
        "ftp://127.0.0.1/token",
        "https://user@api.github.com/token",
        "https://:pass@api.github.com/token",
        "https://api.github.com/token?next=x",
        "https://api.github.com/token#x",
        "https://api.github.com:port/token",
        "https://[::1/token",
    ],
)
def test_the_github_token_is_sent_over_https_only_or_to_this_machine(url: str) -> None:
    with pytest.raises(ConfigError, match=r"exchange\.url"):
        ExchangeSpec(url=url)


@pytest.mark.parametrize("url", ["https://api.acme.ghe.com/x", "http://127.0.0.1:8090/x", "http://[::1]:1/x"])
def test_https_and_loopback_exchanges_are_accepted(url: str) -> None:
    assert ExchangeSpec(url=url).url == url


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*.githubcopilot.com",
        "API.githubcopilot.com",
        "api.githubcopilot.com:8443",
        "https://api.githubcopilot.com",
        "http://api.githubcopilot.com",
        "http://127.0.0.1:8090/path",
        "http://user@127.0.0.1:8090",
        "localhost",
    ],
)
def test_an_allowed_host_is_one_exact_name_or_a_loopback_origin(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"exchange\.allowed_hosts"):
        ExchangeSpec(allowed_hosts=("api.githubcopilot.com", entry))


@pytest.mark.parametrize("entry", ["copilot-api.acme.ghe.com", "http://127.0.0.1:8090", "http://[::1]:8090"])
def test_tenants_and_loopback_origins_can_be_allowed(entry: str) -> None:
    assert ExchangeSpec(allowed_hosts=(entry,)).allowed_hosts == (entry,)


@pytest.mark.parametrize("changes", [{"scheme": "Basic"}, {"headers": {"cookie": "x"}}, {"timeout_seconds": 0}])
def test_a_wrong_exchange_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ExchangeSpec(**changes)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_means_this_machine_only(host: str | None, expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_loopback(host) is expected


def test_a_credential_does_not_show_its_secrets() -> None:
    secret = Secret("ghu_0123456789")
    assert "ghu_" not in repr(Credential(secret, {}, {}, None, (secret,)))
