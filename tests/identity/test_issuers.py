from __future__ import annotations

import pytest

from extproc.address import url_fault
from extproc.errors import ConfigError
from extproc.identity.issuers import entra, github_actions, oidc

TENANT = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS384", "HS512", "ES256K", ""])
def test_no_issuer_can_accept_an_algorithm_that_is_not_asymmetric(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="algorithm"):
        oidc("https://idp.example", audiences=["gateway"], algorithms=["RS256", algorithm])


def test_an_issuer_without_algorithms_or_audiences_cannot_exist() -> None:
    with pytest.raises(ConfigError, match="algorithm"):
        oidc("https://idp.example", audiences=["gateway"], algorithms=[])
    with pytest.raises(ConfigError, match="audience"):
        oidc("https://idp.example", audiences=[])
    with pytest.raises(ConfigError, match="audience"):
        oidc("https://idp.example", audiences=[""])


def test_a_single_text_in_place_of_a_list_is_not_taken_for_its_letters() -> None:
    with pytest.raises(ConfigError, match="audiences must be a list"):
        oidc("https://idp.example", audiences="gateway")


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example",
        "http://127.0.0.1.evil.example",
        "ftp://idp.example",
        "https://",
        "idp.example",
        "https://user:password@idp.example",
        "https://idp.example/?tenant=1",
        "https://idp.example/#x",
        "https://idp.example:port",
        "https://[idp.example",
        "https://idp.example /",
        "https://idp.\texample",
    ],
)
def test_keys_are_only_trusted_over_https(url: str) -> None:
    with pytest.raises(ConfigError):
        oidc(url, audiences=["gateway"])
    with pytest.raises(ConfigError):
        oidc("https://idp.example", audiences=["gateway"], jwks_url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8089", "http://localhost:1/x", "http://[::1]:8089", "https://a.example/b/"]
)
def test_plain_http_is_fine_on_this_machine(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize("leeway", [-1, 601])
def test_the_leeway_is_bounded(leeway: int) -> None:
    with pytest.raises(ConfigError, match="leeway_seconds"):
        oidc("https://idp.example", audiences=["gateway"], leeway_seconds=leeway)


def test_an_entra_tenant_is_trusted_in_both_token_versions_with_the_keys_of_each() -> None:
    issuers = entra([TENANT.upper()], audiences=["api://gateway"])
    assert {issuer.url: issuer.jwks_url for issuer in issuers} == {
        f"https://sts.windows.net/{TENANT}/": f"https://login.microsoftonline.com/{TENANT}/discovery/keys",
        f"https://login.microsoftonline.com/{TENANT}/v2.0": (
            f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"
        ),
    }
    assert {issuer.tenant for issuer in issuers} == {TENANT}


@pytest.mark.parametrize("tenants", [[], ["common"], ["organizations"], ["{tid}"], [TENANT, "contoso.com"]])
def test_entra_needs_exact_tenant_ids(tenants: list[str]) -> None:
    with pytest.raises(ConfigError, match="tenant"):
        entra(tenants, audiences=["api://gateway"])


@pytest.mark.parametrize("owners", [[], [""]])
def test_github_actions_is_never_trusted_without_an_allow_list_of_owners(owners: list[str]) -> None:
    with pytest.raises(ConfigError, match="repository_owners"):
        github_actions(owners, audiences=["gateway"])
