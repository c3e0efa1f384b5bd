from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from extproc import config
from extproc.errors import ConfigError
from extproc.identity.gateway_token import GatewayTokens
from extproc.intercepted import DEFAULT_HOSTS
from extproc.keys.fingerprint_key import FILE_NAME
from extproc.masking.finding import Direction
from extproc.masking.masker import Masking
from extproc.metrics_shared import FOLDER_VARIABLE
from extproc.rules import Rules
from extproc.serve import _masking, _metrics, _notifier, _rules
from tests.detecting import CACHE, masking
from tests.metrics_of import samples, told
from tests.playbook import MASKED, SECRET

SETTINGS = f"""\
policy: policy.yaml
rule_cache: {CACHE}
state: state
store: {{ sqlite: record.db }}
issuers:
  - kind: oidc
    issuer: https://idp.example
    audiences: [gateway]
"""


def masking_of(folder: Path, section: str) -> Masking:
    (folder / "policy.yaml").write_text(f"version: 1\nrules: []\n{section}")
    (folder / "gateway.yaml").write_text(SETTINGS)
    return _masking(config.load(folder / "gateway.yaml"))


def masked(masking: Masking, text: str) -> str:
    return masking.masker(Direction.PROMPT).text(text, "x")


def test_without_a_section_secrets_are_masked_and_the_key_of_fingerprints_is_in_the_state(
    tmp_path: Path,
) -> None:
    found = masking_of(tmp_path, "")
    assert masked(found, f"use {SECRET} now") == f"use {MASKED} now"
    assert len((tmp_path / "state" / FILE_NAME).read_bytes()) == 32
    again = masking_of(tmp_path, "")
    assert again.fingerprints.of(SECRET) == found.fingerprints.of(SECRET)
    assert again.detector.digest == found.detector.digest


def test_the_rules_of_a_users_file_are_looked_for_beside_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("rules: [{id: acme-key, name: acme, pattern: '\\b(acme_[a-z0-9]{20})\\b'}]\n")
    found = masking_of(tmp_path, "masking: { rule-files: [{ name: acme, file: acme.yaml }] }\n")
    ours = "acme_0a1b2c3d4e5f6g7h8i9j"
    assert masked(found, f"{ours} {SECRET}") == f"[MASKED:acme-key] {MASKED}"


def test_a_policy_that_looks_for_nothing_masks_nothing(tmp_path: Path) -> None:
    found = masking_of(tmp_path, "masking: { secrets: { prompts: off, answers: off } }\n")
    assert masked(found, f"use {SECRET} now") == f"use {SECRET} now"


def test_metrics_say_what_runs_and_have_the_groups_of_the_policy(tmp_path: Path) -> None:
    rule = "{ id: a, effect: allow, when: { groups: [developers] }, credential: c }"
    (tmp_path / "policy.yaml").write_text(f"version: 1\nrules: [{rule}]\n")
    (tmp_path / "gateway.yaml").write_text(f"{SETTINGS}credentials: {{ c: {{ env: TOKEN }} }}\n")
    loaded = config.load(tmp_path / "gateway.yaml")
    metrics = _metrics(loaded, {})
    assert samples(metrics)["extproc_policy_info", (loaded.policy.digest,)] == 1
    assert metrics.labels.group(told().principal) == "developers"


def test_metrics_are_shared_in_the_folder_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\nrules: []\n")
    (tmp_path / "gateway.yaml").write_text(SETTINGS)
    loaded = config.load(tmp_path / "gateway.yaml")
    _metrics(loaded, {FOLDER_VARIABLE: str(tmp_path / "shared")})
    assert (tmp_path / "shared").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"PROMETHEUS_MULTIPROC_DIR: cannot use .*file"):
        _metrics(loaded, {FOLDER_VARIABLE: str(tmp_path / "file")})


TOKENS = GatewayTokens([b"k" * 32])


def rules_of(folder: Path, section: str) -> Rules:
    (folder / "policy.yaml").write_text("version: 1\nrules: []\n")
    (folder / "gateway.yaml").write_text(f"{SETTINGS}{section}\n")
    loaded = config.load(folder / "gateway.yaml")
    return _rules(loaded, masking(), TOKENS)


def test_without_settings_for_it_clients_are_told_nothing_and_the_usual_hosts_are_read(tmp_path: Path) -> None:
    found = rules_of(tmp_path, "")
    assert (found.profile, found.url, found.intercepted) == (None, None, DEFAULT_HOSTS)
    assert found.gateway_tokens is TOKENS


def test_what_clients_are_told_and_which_hosts_are_read_is_as_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("PEM")
    told = "{ gateway: 'https://gateway.example', ca_file: ca.pem, issuer: 'https://idp.example', client_id: c }"
    found = rules_of(tmp_path, f"url: https://gateway.example\nproxy: {{ hosts: [github.com] }}\nsign_in: {told}")
    assert found.intercepted == (*DEFAULT_HOSTS, "github.com")
    assert found.url == "https://gateway.example"
    assert rules_of(tmp_path, f"sign_in: {told}").url == "https://gateway.example"
    assert found.profile is not None
    assert json.loads(found.profile) == {
        "gateway": "https://gateway.example",
        "issuer": "https://idp.example",
        "client_id": "c",
        "ca_pem": "PEM",
    }


def test_an_authority_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    told = "{ gateway: 'https://gateway.example', ca_file: none.pem, issuer: 'https://idp.example', client_id: c }"
    with pytest.raises(ConfigError, match=r"sign_in\.ca_file"):
        rules_of(tmp_path, f"sign_in: {told}")


async def notified(folder: Path, section: str) -> list[str]:
    (folder / "policy.yaml").write_text("version: 1\nrules: []\n")
    (folder / "gateway.yaml").write_text(f"{SETTINGS}notifications: {section}\n")
    async with aiohttp.ClientSession() as session:
        notifier = _notifier(config.load(folder / "gateway.yaml"), session, lambda: 0.0)
        await notifier.aclose()
    return notifier.channels


async def test_every_webhook_and_every_line_of_the_apprise_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{'k' * 32}\n")
    (tmp_path / "apprise").write_text("# ours\njson://127.0.0.1:1/a\n")
    assert await notified(tmp_path, "{}") == []
    section = "{ webhooks: [{ url: 'https://hooks.example', key_file: key }], apprise_file: apprise }"
    assert await notified(tmp_path, section) == ["webhooks[0]", "apprise_file line 2"]


async def test_a_webhook_without_a_usable_key_is_told_with_its_place(tmp_path: Path) -> None:
    section = "{ webhooks: [{ url: 'https://hooks.example', key_file: key }] }"
    with pytest.raises(ConfigError, match=r"notifications: webhooks\[0\]\.key_file: .*cannot be read"):
        await notified(tmp_path, section)
    (tmp_path / "key").write_text("k" * 31)
    with pytest.raises(ConfigError, match=r"webhooks\[0\]\.key_file: expected at least 32 characters"):
        await notified(tmp_path, section)
