from __future__ import annotations

import pytest

from extproc.endpoint import EndpointKind, Upstream, endpoint_of, upstream_of
from extproc.errors import ConfigError
from extproc.intercepted import DEFAULT_HOSTS, host_fault, intercepted_hosts, is_intercepted

COPILOT, PROXY, TELEMETRY = Upstream.COPILOT_API, Upstream.COPILOT_PROXY, Upstream.TELEMETRY

# What each host is for, and a request that its clients send there.
HOSTS = [
    ("api.githubcopilot.com", COPILOT, "POST", "/chat/completions", "chat"),
    ("api.individual.githubcopilot.com", COPILOT, "POST", "/v1/messages", "messages"),
    ("api.business.githubcopilot.com", COPILOT, "POST", "/responses", "responses"),
    ("api.enterprise.githubcopilot.com", COPILOT, "GET", "/models", "models"),
    ("copilot-proxy.githubusercontent.com", PROXY, "POST", "/v1/engines/gpt/completions", "completions"),
    ("proxy.individual.githubcopilot.com", PROXY, "POST", "/v1/engines/gpt/completions", "completions"),
    ("proxy.business.githubcopilot.com", PROXY, "POST", "/chat/completions", "chat"),
    ("proxy.enterprise.githubcopilot.com", PROXY, "GET", "/models", "models"),
    ("copilot-telemetry.githubusercontent.com", TELEMETRY, "GET", "/telemetry", "telemetry"),
    ("telemetry.individual.githubcopilot.com", TELEMETRY, "POST", "/telemetry", "telemetry"),
    ("telemetry.business.githubcopilot.com", TELEMETRY, "POST", "/telemetry", "telemetry"),
    ("telemetry.enterprise.githubcopilot.com", TELEMETRY, "POST", "/telemetry", "telemetry"),
    ("api.github.com", Upstream.GITHUB_API, "GET", "/copilot_internal/v2/token", "account"),
]


@pytest.mark.parametrize(("host", "upstream", "method", "path", "kind"), HOSTS)
def test_what_is_sent_to_a_default_host_is_understood(
    host: str, upstream: Upstream, method: str, path: str, kind: str
) -> None:
    # The host decides, whatever the path says.
    assert upstream_of(host, path) is upstream_of(host, "/anything") is upstream
    found = endpoint_of(method, upstream, path)
    assert found is not None
    assert found.kind is EndpointKind(kind)


def test_every_default_host_has_a_row_above() -> None:
    assert sorted(DEFAULT_HOSTS) == sorted(host for host, *_ in HOSTS)
    assert [fault for host in DEFAULT_HOSTS if (fault := host_fault(host))] == []


@pytest.mark.parametrize("host", ["api.acme.ghe.com", "*.acme.ghe.com", "github.com", "a-1.b-2.c", "*.ghe.com"])
def test_host_names_and_wildcards_for_one_label_may_be_intercepted(host: str) -> None:
    assert host_fault(host) is None
    assert intercepted_hosts([host])[-1] == host


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("", "expected a host name"),
        ("localhost", "expected a host name"),
        ("API.github.com", "expected a host name in lower case"),
        ("api.github.com:443", "expected a host name"),
        ("https://api.github.com", "expected a host name"),
        ("api.github.com.", "expected a host name"),
        ("api..com", "expected a host name"),
        ("a_b.com", "expected a host name"),
        ("b\u00fccher.example", "expected a host name"),
        ("api.github.com\n", "expected a host name"),
        ("*", "expected a host name"),
        ("api.*.com", "expected a host name"),
        ("*.*.ghe.com", "expected a host name"),
        ("*ghe.com", "expected a host name"),
        ("*.com", "expected a host name"),
        ("10.0.0.1", "got the IP address '10.0.0.1'"),
        ("::1", "expected a host name"),
        (f"{'a.' * 126}ab", "expected a host name"),
    ],
)
def test_what_is_no_host_name_is_told(host: str, fault: str) -> None:
    assert fault in (host_fault(host) or "")
    with pytest.raises(ConfigError, match=r"^hosts to intercept: "):
        intercepted_hosts(["github.com", host])


def test_a_name_of_253_characters_is_not_too_long() -> None:
    assert host_fault(f"{'a.' * 126}a") is None


def test_more_hosts_come_after_the_default_ones_and_each_once() -> None:
    assert intercepted_hosts() == DEFAULT_HOSTS
    assert intercepted_hosts(["github.com", "api.github.com", "github.com"]) == (*DEFAULT_HOSTS, "github.com")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("api.github.com", True),
        ("api.acme.ghe.com", True),
        ("copilot-api.acme.ghe.com", True),
        # The wildcard is for one label, as in the certificate.
        ("a.b.acme.ghe.com", False),
        ("acme.ghe.com", False),
        ("evilapi.github.com", False),
        ("api.github.com.evil.example", False),
        ("github.com", False),
        ("com", False),
        ("", False),
    ],
)
def test_a_host_is_intercepted_if_it_is_listed_or_one_label_below_a_wildcard(host: str, *, expected: bool) -> None:
    assert is_intercepted(host, intercepted_hosts(["*.acme.ghe.com"])) is expected
