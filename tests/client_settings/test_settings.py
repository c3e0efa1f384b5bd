from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest
from msgspec.structs import replace

from extproc.client_settings.settings import Client, Mode, Trust, proxy_of, settings_for
from extproc.errors import ConfigError
from extproc.secret import Secret
from extproc.signin.profile import Profile

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"
PLAIN = Profile(
    gateway="http://127.0.0.1:8080", issuer="https://login.example", client_id="cli", proxy="http://127.0.0.1:3128"
)
SECURE = replace(PLAIN, gateway="https://gateway.example/", proxy="http://gateway.example:3128", ca_pem="PEM")
CA = PurePosixPath("/home/a/.config/copilot-extproc/ca.pem")
TRUST = Trust(CA, CA.with_name("bundle.pem"))
PROXY = {
    "HTTPS_PROXY": f"http://extproc:{TOKEN}@gateway.example:3128",
    "https_proxy": f"http://extproc:{TOKEN}@gateway.example:3128",
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "no_proxy": "127.0.0.1,localhost,::1",
    "NODE_EXTRA_CA_CERTS": str(CA),
}


def variables(client: Client, mode: Mode, profile: Profile = SECURE, ca: Trust | None = TRUST) -> dict[str, str]:
    return dict(settings_for([client], mode, profile, Secret(TOKEN), ca).variables)


def test_copilot_cli_by_url_gets_both_addresses_and_a_token_that_looks_like_githubs() -> None:
    assert variables(Client.COPILOT_CLI, Mode.URL, PLAIN, None) == {
        "COPILOT_API_URL": "http://127.0.0.1:8080",
        "COPILOT_DEBUG_GITHUB_API_URL": "http://127.0.0.1:8080",
        "COPILOT_GITHUB_TOKEN": f"gho_{TOKEN}",
    }


def test_copilot_cli_gets_the_root_for_the_address_whose_path_it_drops() -> None:
    found = variables(Client.COPILOT_CLI, Mode.URL, replace(SECURE, gateway="https://gateway.example/pre"))
    assert found["COPILOT_API_URL"] == "https://gateway.example/pre"
    assert found["COPILOT_DEBUG_GITHUB_API_URL"] == "https://gateway.example"


def test_the_authority_is_named_only_where_a_client_meets_it() -> None:
    assert variables(Client.COPILOT_CLI, Mode.URL)["NODE_EXTRA_CA_CERTS"] == str(CA)
    assert "NODE_EXTRA_CA_CERTS" not in variables(Client.COPILOT_CLI, Mode.URL, PLAIN)
    assert variables(Client.COPILOT_CLI, Mode.PROXY, PLAIN)["NODE_EXTRA_CA_CERTS"] == str(CA)
    assert "SSL_CERT_FILE" not in variables(Client.COPILOT_CLI, Mode.PROXY)
    # This one replaces what the system trusts, so it names a file that has that too.
    assert variables(Client.OPENAI, Mode.URL)["SSL_CERT_FILE"] == str(TRUST.bundle)


def test_variables_that_name_other_authorities_name_the_bundle_where_the_authority_is_met() -> None:
    trust = Trust(CA, TRUST.bundle, ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"))
    for mode in Mode:
        found = variables(Client.COPILOT_CLI, mode, SECURE, trust)
        assert (found["CURL_CA_BUNDLE"], found["REQUESTS_CA_BUNDLE"]) == (str(TRUST.bundle),) * 2
        assert "SSL_CERT_FILE" not in found
    assert "CURL_CA_BUNDLE" not in variables(Client.COPILOT_CLI, Mode.URL, PLAIN, trust)


def test_one_file_may_be_all_there_is() -> None:
    found = settings_for([Client.OPENAI], Mode.PROXY, SECURE, Secret(TOKEN), CA).variables
    assert (found["NODE_EXTRA_CA_CERTS"], found["SSL_CERT_FILE"]) == (str(CA), str(CA))


def test_the_language_server_gets_both_addresses_and_a_token_without_an_equals_sign() -> None:
    found = variables(Client.LANGUAGE_SERVER, Mode.URL, PLAIN, None)
    gateway = "http://127.0.0.1:8080"
    assert found == {"GH_COPILOT_TOKEN": TOKEN, "GH_COPILOT_API_URL": gateway, "GH_COPILOT_SERVER_URL": gateway}


def test_sdks_by_url_get_the_path_that_they_expect_and_the_bare_token() -> None:
    gateway = "http://127.0.0.1:8080"
    assert variables(Client.OPENAI, Mode.URL, PLAIN) == {"OPENAI_BASE_URL": f"{gateway}/v1", "OPENAI_API_KEY": TOKEN}
    assert variables(Client.ANTHROPIC, Mode.URL, PLAIN) == {"ANTHROPIC_BASE_URL": gateway, "ANTHROPIC_API_KEY": TOKEN}


def test_opencode_by_url_gets_its_configuration_and_sign_in_as_json() -> None:
    found = {name: json.loads(value) for name, value in variables(Client.OPENCODE, Mode.URL, PLAIN).items()}
    base = {"github-copilot": {"options": {"baseURL": "http://127.0.0.1:8080"}}}
    sign_in = {"github-copilot": {"type": "oauth", "refresh": TOKEN, "access": TOKEN, "expires": 0}}
    assert found == {"OPENCODE_CONFIG_CONTENT": {"provider": base}, "OPENCODE_AUTH_CONTENT": sign_in}


def test_vscode_gets_members_of_its_settings_file() -> None:
    by_url = settings_for([Client.VSCODE], Mode.URL, PLAIN, Secret(TOKEN), None)
    overrides = {"debug.overrideCapiUrl": PLAIN.gateway, "debug.overrideProxyUrl": PLAIN.gateway}
    assert by_url.documents == {"settings.json": {"github.copilot.advanced": overrides}}
    assert by_url.variables == {}
    by_proxy = settings_for([Client.VSCODE], Mode.PROXY, SECURE, Secret(TOKEN), CA)
    assert by_proxy.documents["settings.json"]["http.proxy"] == PROXY["HTTPS_PROXY"]
    assert by_proxy.documents["settings.json"]["http.proxyStrictSSL"] is True
    assert by_proxy.variables == PROXY


def test_the_language_server_by_proxy_gets_the_setting_of_its_protocol_too() -> None:
    found = settings_for([Client.LANGUAGE_SERVER], Mode.PROXY, SECURE, Secret(TOKEN), CA)
    http = {"proxy": PROXY["HTTPS_PROXY"], "proxyStrictSSL": True}
    assert list(found.documents.values()) == [{"http": http}]


@pytest.mark.parametrize("client", Client)
def test_in_proxy_mode_only_the_proxys_password_is_the_token(client: Client) -> None:
    found = variables(client, Mode.PROXY)
    assert PROXY.items() <= found.items()
    assert [name for name, value in found.items() if TOKEN in value] == ["HTTPS_PROXY", "https_proxy"]


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize("mode", Mode)
def test_a_token_is_never_shown_by_repr_nor_in_a_note(client: Client, mode: Mode) -> None:
    found = settings_for([client], mode, SECURE, Secret(TOKEN), CA)
    assert TOKEN not in repr(found)
    assert found.notes
    assert all(TOKEN not in note and note.isprintable() and note.isascii() for note in found.notes)


def test_several_clients_together_get_what_each_needs_and_each_note_once() -> None:
    clients = [Client.OPENAI, Client.ANTHROPIC, Client.OPENAI]
    found = settings_for(clients, Mode.PROXY, SECURE, Secret(TOKEN), TRUST)
    assert found.variables == {**variables(Client.OPENAI, Mode.PROXY), **variables(Client.ANTHROPIC, Mode.PROXY)}
    assert len(found.notes) == len(set(found.notes))


def test_a_password_cannot_leave_its_place_in_the_proxys_address() -> None:
    found = settings_for([Client.COPILOT_CLI], Mode.PROXY, PLAIN, Secret("a:b@c/d"), None)
    assert found.variables["HTTPS_PROXY"] == "http://extproc:a%3Ab%40c%2Fd@127.0.0.1:3128"


def test_a_gateway_without_a_proxy_is_said_so() -> None:
    with pytest.raises(ConfigError, match="names no forward proxy; use --mode url"):
        variables(Client.COPILOT_CLI, Mode.PROXY, replace(PLAIN, proxy=None))


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "gateway:3128",
        "socks5://g:1",
        "http://",
        "http://u:p@g:1",
        "http://g:99999",
        "http://g:x",
        "http://[::1",
        "http://g/p",
    ],
)
def test_an_address_that_is_no_proxy_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError, match="proxy must be"):
        proxy_of(replace(PLAIN, proxy=proxy))


@pytest.mark.parametrize(
    ("proxy", "host", "port"),
    [
        ("http://[::1]:3128", "::1", 3128),
        ("https://g.example", "g.example", 443),
        ("http://g.example/", "g.example", 80),
    ],
)
def test_a_proxys_address_is_taken_apart(proxy: str, host: str, port: int) -> None:
    profile = replace(PLAIN, proxy=proxy)
    assert (proxy_of(profile).host, proxy_of(profile).port) == (host, port)
    url = settings_for([Client.OPENAI], Mode.PROXY, profile, Secret("t"), None).variables["HTTPS_PROXY"]
    assert url.endswith(f"@[::1]:{port}" if ":" in host else f"@{host}:{port}")
