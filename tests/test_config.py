from __future__ import annotations

import re
from pathlib import Path

import pytest

from extproc import config
from extproc.config import Config
from extproc.endpoint import Upstream
from extproc.errors import ConfigError
from extproc.identity.issuers import ActionsIssuer, EntraIssuer, OidcIssuer
from extproc.masking.policy import MaskingPolicy
from extproc.signin.profile import Profile

TENANT = "11111111-2222-3333-4444-555555555555"
POLICY = "version: 1\ncredential: github\nrules:\n  - id: all\n    effect: allow\n"
PLAIN = """\
policy: policy.yaml
store: { sqlite: state/record.db }
issuers:
  - kind: oidc
    issuer: https://idp.example
    audiences: [gateway]
credentials:
  github: { file: token }
"""


def load(folder: Path, text: str = PLAIN, policy: str = POLICY) -> Config:
    (folder / "policy.yaml").write_text(policy)
    (folder / "gateway.yaml").write_text(text)
    return config.load(folder / "gateway.yaml")


def fault(folder: Path, text: str, policy: str = POLICY) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, policy)
    return str(caught.value).replace(f"{folder}/", "")


def with_issuer(entry: str) -> str:
    return re.sub(r"(?s)  - kind: oidc.*?\n(?=credentials)", entry, PLAIN)


def test_each_worker_has_addresses_of_its_own(tmp_path: Path) -> None:
    listen = '["unix:run/a-{worker}.sock", "unix:/run/b/{worker}.sock"]'
    found = load(tmp_path, f"{PLAIN}workers: 2\nlisten: {listen}\n")
    assert found.settings.listen_of(1) == ["unix:run/a-1.sock", "unix:/run/b/1.sock"]
    assert found.socket_folder == tmp_path / "run"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("workers: 0", "workers: Input should be greater than or equal to 1"),
        ("workers: 65", "workers: "),
        ('workers: 2\nlisten: ["unix:a.sock"]', "'unix:a.sock': with several workers expected unix:PATH with {worker}"),
        pytest.param(
            'workers: 2\nlisten: ["unix:{worker}/a"]',
            "'unix:{worker}/a': with several workers expected unix:PATH",
            id="in the folder",
        ),
        ('workers: 2\nlisten: ["127.0.0.1:900{worker}"]', "'127.0.0.1:900{worker}': with several workers"),
        ('listen: ["unix:{workers}.sock"]', "expected no braces but those of {worker}"),
    ],
)
def test_workers_that_would_share_an_address_are_told(tmp_path: Path, more: str, told: str) -> None:
    assert told in fault(tmp_path, f"{PLAIN}{more}\n")


def test_a_plain_file_has_the_defaults(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.settings.workers, found.settings.listen_of(0)) == (1, ["unix:/run/extproc/0.sock"])
    assert found.settings.operations == "0.0.0.0:9464"
    assert found.base / found.settings.rule_cache == tmp_path / "rule-cache"
    assert found.policy.masking == MaskingPolicy()
    limits = found.settings.limits
    assert (limits.max_request_bytes, limits.max_answer_bytes, limits.max_event_bytes) == (10 << 20, 32 << 20, 4 << 20)
    assert (limits.max_exchanges, limits.max_waiting) == (2000, 1000)
    assert (limits.idle_seconds, limits.total_seconds, limits.drain_seconds) == (840, 3600, 30)
    assert found.upstream_hosts == {
        Upstream.COPILOT_API: "api.githubcopilot.com",
        Upstream.COPILOT_PROXY: "copilot-proxy.githubusercontent.com",
        Upstream.GITHUB_API: "api.github.com",
        Upstream.GITHUB_WEB: "github.com",
        Upstream.TELEMETRY: "copilot-telemetry.githubusercontent.com",
    }
    assert (found.url, found.settings.proxy.hosts, found.profile()) == (None, [], None)
    assert found.credentials[0].upstreams == {Upstream.COPILOT_API, Upstream.COPILOT_PROXY, Upstream.GITHUB_API}
    assert [rule.decision.rule_id for rule in found.policy.rules] == ["all"]


def test_relative_paths_start_at_the_file_and_absolute_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = load(tmp_path)
    assert found.base == tmp_path
    assert found.credentials[0].file == tmp_path / "token"
    assert found.places.record == tmp_path / "state" / "record.db"
    assert load(tmp_path, PLAIN.replace("file: token", "file: /secrets/token")).credentials[0].file == Path(
        "/secrets/token"
    )
    (tmp_path / "policy.yaml").rename(elsewhere / "policy.yaml")
    (tmp_path / "gateway.yaml").write_text(PLAIN.replace("policy.yaml", str(elsewhere / "policy.yaml")))
    assert config.load(tmp_path / "gateway.yaml").policy.rules


def test_everything_of_the_file_arrives(tmp_path: Path) -> None:
    text = PLAIN.replace(
        "github: { file: token }",
        "github:\n    env: TOKEN\n    scheme: token\n    headers: { x-a: b }\n    headers_if_missing: { x-c: d }\n"
        "    upstreams: [copilot-api]\n    exchange: { url: 'http://127.0.0.1:1/t', timeout_seconds: 2.5 }",
    )
    text += (
        "rule_cache: /var/cache/rules\n"
        "listen: ['127.0.0.1:50051']\noperations: '[::1]:9464'\nupstreams: { github-api: api.acme.ghe.com }\n"
        "limits: { max_request_bytes: 5, max_waiting: 7, drain_seconds: 0, session_gap_seconds: 1.5 }\n"
    )
    found = load(tmp_path, text)
    (credential,) = found.credentials
    assert (credential.name, credential.file, credential.env, credential.scheme) == ("github", None, "TOKEN", "token")
    assert (credential.headers, credential.headers_if_missing) == ({"x-a": "b"}, {"x-c": "d"})
    assert credential.upstreams == {Upstream.COPILOT_API}
    assert credential.exchange is not None
    assert (credential.exchange.url, credential.exchange.timeout_seconds) == ("http://127.0.0.1:1/t", 2.5)
    assert "editor-version" in credential.exchange.headers
    assert found.upstream_hosts[Upstream.GITHUB_API] == "api.acme.ghe.com"
    assert found.upstream_hosts[Upstream.COPILOT_API] == "api.githubcopilot.com"
    assert found.settings.rule_cache == Path("/var/cache/rules")
    assert (found.settings.limits.max_request_bytes, found.settings.limits.max_waiting) == (5, 7)
    assert found.settings.limits.session_gap_seconds == 1.5


def test_an_oidc_issuer_arrives(tmp_path: Path) -> None:
    entry = (
        "  - kind: oidc\n    issuer: https://idp.example\n    audiences: [a, b]\n    algorithms: [ES256]\n"
        "    name_claim: email\n    groups_claim: roles\n    subjects: workload\n    leeway_seconds: 5\n"
    )
    (issuer,) = load(tmp_path, with_issuer(entry)).issuers
    assert isinstance(issuer, OidcIssuer)
    assert (issuer.url, issuer.audiences, issuer.kind) == ("https://idp.example", frozenset({"a", "b"}), "workload")
    assert (issuer.name_claim, issuer.groups_claim, issuer.leeway_seconds) == ("email", "roles", 5)


def test_an_entra_entry_trusts_both_issuers_of_each_tenant(tmp_path: Path) -> None:
    entry = f"  - kind: entra\n    tenants: [{TENANT}]\n    audiences: [api://gateway]\n"
    entry += "    graph: { client_id: app, client_secret_file: graph-secret }\n"
    issuers = load(tmp_path, with_issuer(entry)).issuers
    assert all(isinstance(one, EntraIssuer) and one.tenant == TENANT for one in issuers)
    assert len({one.url for one in issuers}) == 2


def test_a_github_actions_entry_trusts_the_workflows_of_its_owners(tmp_path: Path) -> None:
    entry = "  - kind: github-actions\n    repository_owners: [Acme]\n    audiences: [gateway]\n"
    (issuer,) = load(tmp_path, with_issuer(entry)).issuers
    assert isinstance(issuer, ActionsIssuer)
    assert issuer.repository_owners == {"acme"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("policy: policy.yaml\n", "", "gateway.yaml:1: policy: required"),
        ("sqlite:", "sqllite:", "gateway.yaml:2: store.sqllite: unknown key"),
        ("kind: oidc", "kind: saml", "gateway.yaml:4: issuers[0]"),
        ("{ file: token }", "{ file: token, scheme: 1 }", "gateway.yaml:8: credentials.github.scheme: expected text"),
        ("{ file: token }", "{ file: token }\nlimits:\n  idle_seconds: 0", "gateway.yaml:10: limits.idle_seconds"),
        ("{ file: token }", "{ file: token }\nlimits: { max_exchanges: many }", "gateway.yaml:9: limits.max_exchanges"),
        ("{ file: token }", "{ file: token }\nupstreams: { gitlab: x }", "gateway.yaml:9: upstreams.gitlab"),
        ("{ file: token }", "{ file: token }\nlisten: []", "gateway.yaml:9: listen"),
        ("{ file: token }", "{ file: token }\nrule_cache: 1", "gateway.yaml:9: rule_cache"),
    ],
)
def test_a_fault_is_told_with_file_line_and_key(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in PLAIN
    assert said in fault(tmp_path, PLAIN.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("audiences: [gateway]", "audiences: [gateway]\n    algorithms: [RS256, HS256]", "HS256"),
        ("audiences: [gateway]", "audiences: [gateway]\n    algorithms: [none]", "none"),
        ("audiences: [gateway]", "audiences: []", "audience"),
        ("https://idp.example", "http://idp.example", "https"),
        ("{ file: token }", "{ file: token, env: TOKEN }", "exactly one of `file` and `env`"),
        ("{ file: token }", "{}", "exactly one of `file` and `env`"),
        (
            "{ file: token }",
            "{ file: token, headers: { authorization: x } }",
            "authorization is not for a credential to set",
        ),
        ("{ file: token }", "{ file: token, scheme: Basic }", "scheme"),
        ("github: {", "'not a name': {", "credential name"),
    ],
)
def test_what_is_dangerous_is_refused_and_the_file_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in PLAIN
    text = fault(tmp_path, PLAIN.replace(before, after))
    assert text.startswith("gateway.yaml")
    assert said in text


SIGN_IN = """\
sign_in:
  gateway: https://gateway.example/
  proxy: http://127.0.0.1:3128
  ca_file: ca.pem
  issuer: https://idp.example/
  client_id: extproc
  scopes: [groups]
  use: id_token
"""


def test_what_clients_are_told_of_the_gateway_arrives(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert load(tmp_path, PLAIN + SIGN_IN).profile() == Profile(
        gateway="https://gateway.example",
        # An issuer is what it calls itself, to the letter.
        issuer="https://idp.example/",
        client_id="extproc",
        scopes=("groups",),
        use="id_token",
        proxy="http://127.0.0.1:3128",
        ca_pem="-----BEGIN CERTIFICATE-----\n",
    )
    short = "sign_in: { gateway: 'https://g.example', issuer: 'https://i.example', client_id: c }\n"
    expected = Profile(gateway="https://g.example", issuer="https://i.example", client_id="c")
    assert load(tmp_path, PLAIN + short).profile() == expected


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    found = load(tmp_path, PLAIN + SIGN_IN)
    with pytest.raises(ConfigError, match=r"sign_in\.ca_file: ca\.pem cannot be read"):
        found.profile()


def test_clients_are_told_the_console_only_where_its_address_is_set(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    for text, told in (
        ("", None),
        ("console: { session_seconds: 60 }\n", None),
        ("console: { url: 'https://console.example/' }\n", "https://console.example"),
    ):
        profile = load(tmp_path, PLAIN + SIGN_IN + text).profile()
        assert profile is not None
        assert profile.console == told


def test_where_clients_are_sent_and_whom_the_proxy_reads_arrives(tmp_path: Path) -> None:
    text = PLAIN + "url: https://gateway.example/copilot/\nproxy: { hosts: ['*.acme.ghe.com', github.com] }\n"
    found = load(tmp_path, text).settings
    # Clients append paths to it.
    assert found.url == "https://gateway.example/copilot"
    assert found.proxy.hosts == ["*.acme.ghe.com", "github.com"]


def test_clients_are_sent_where_they_are_told_the_gateway_is_unless_its_url_is_set(tmp_path: Path) -> None:
    assert load(tmp_path, PLAIN + SIGN_IN).url == "https://gateway.example"
    assert load(tmp_path, PLAIN + SIGN_IN + "url: https://other.example\n").url == "https://other.example"


def test_where_the_gateway_is_told_without_tls_clients_are_sent_where_they_came_to(tmp_path: Path) -> None:
    told = SIGN_IN.replace("https://gateway.example/", "http://127.0.0.1:8080")
    assert load(tmp_path, PLAIN + told).url is None
    assert load(tmp_path, PLAIN + told + "url: https://other.example\n").url == "https://other.example"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("url: http://gateway.example", "gateway.yaml:9: url: the address must be an https URL"),
        ("url: https://gateway.example/?a=b", "url: the address must have a host and neither"),
        ("url: https://gateway.example/#a", "url: the address must have a host and neither"),
        ("url: 'https://me:s3cret@gateway.example'", "url: the address must have a host and neither"),
        ("url: 'https://gateway.example/a b'", "url: the address has a space"),
        ("url: gateway.example", "url: the address must have a host"),
        ("url: ''", "url: the address must have a host"),
        ("proxy: { hosts: [192.0.2.1] }", "gateway.yaml:9: proxy.hosts[0]: expected a host name, got the IP address"),
        ("proxy: { hosts: [github.com, '*.com'] }", "proxy.hosts[1]: expected a host name"),
        ("proxy: { hosts: ['*'] }", "proxy.hosts[0]: expected a host name"),
        ("proxy: { hosts: ['github.com:443'] }", "proxy.hosts[0]: expected a host name"),
        ("proxy: { hosts: [GitHub.com] }", "proxy.hosts[0]: expected a host name in lower case"),
        ("proxy: { hosts: github.com }", "proxy.hosts: expected a list"),
        ("proxy: { port: 3128 }", "proxy.port: unknown key"),
        ("sign_in: { gateway: 'https://g.example' }", "sign_in.issuer: required"),
        (SIGN_IN.replace("https://gateway.example/", "http://gateway.example"), "sign_in.gateway: the address must be"),
        (SIGN_IN.replace("https://idp.example/", "http://idp.example"), "sign_in.issuer: the address must be an https"),
        (SIGN_IN.replace("client_id: extproc", "client_id: ''"), "sign_in.client_id: "),
        (SIGN_IN.replace("id_token", "refresh_token"), "sign_in.use: "),
        (SIGN_IN.replace("proxy: http:", "proxy: ftp:"), "sign_in.proxy: the address must be an https URL"),
    ],
)
def test_a_fault_in_what_clients_are_told_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    assert said in fault(tmp_path, f"{PLAIN}{line}\n")


def test_notifications_arrive_and_by_default_nobody_is_told(tmp_path: Path) -> None:
    assert not load(tmp_path).settings.notifications.webhooks
    text = f"{PLAIN}notifications:\n  link: 'https://console.example/#/approvals/{{id}}'\n  apprise_file: apprise\n"
    text += "  webhooks: [{ url: 'https://hooks.example/a?sig=s3cret', key_file: key }]\n"
    found = load(tmp_path, text).settings.notifications
    assert (found.link, found.apprise_file) == ("https://console.example/#/approvals/{id}", Path("apprise"))
    assert [(one.url, one.key_file) for one in found.webhooks] == [("https://hooks.example/a?sig=s3cret", Path("key"))]
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{ link: 'https://console.example/approvals' }", "notifications.link: expected {id}"),
        ("{ link: 'http://console.example/{id}' }", "notifications.link: the address must be an https URL"),
        (
            "{ webhooks: [{ url: 'http://hooks.example/s3cret', key_file: k }] }",
            "webhooks[0]: the address must be an https URL",
        ),
        ("{ webhooks: [{ url: 'https://u:s3cret@hooks.example', key_file: k }] }", "neither credentials"),
        (
            "{ webhooks: [{ url: 'https://hooks.example/?a=s3cret b', key_file: k }] }",
            "webhooks[0]: the address has a space",
        ),
        ("{ webhooks: [{ url: 'https://hooks.example/s3cret' }] }", "notifications.webhooks[0].key_file: required"),
    ],
)
def test_a_fault_in_notifications_is_told_without_the_address(tmp_path: Path, settings: str, said: str) -> None:
    text = fault(tmp_path, f"{PLAIN}notifications: {settings}\n")
    assert said in text
    assert "s3cret" not in text


def test_an_issuer_listed_twice_is_refused(tmp_path: Path) -> None:
    again = "  - kind: oidc\n    issuer: https://idp.example\n    audiences: [other]\n"
    said = fault(tmp_path, PLAIN.replace("credentials:", f"{again}credentials:"))
    assert said == "gateway.yaml: issuers: https://idp.example is listed twice"


def test_a_credential_that_only_the_policy_knows_is_refused(tmp_path: Path) -> None:
    said = fault(tmp_path, PLAIN, POLICY.replace("github", "other"))
    assert said == "gateway.yaml: credentials: the policy policy.yaml uses 'other', expected an entry of that name"


def test_a_fault_of_the_policy_is_told_with_its_own_file(tmp_path: Path) -> None:
    assert fault(tmp_path, PLAIN, POLICY.replace("effect: allow", "effect: maybe")).startswith("policy.yaml:5: ")
    assert "none.yaml: cannot be read" in fault(tmp_path, PLAIN.replace("policy.yaml", "none.yaml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.yaml: cannot be read"):
        config.load(tmp_path / "gateway.yaml")
