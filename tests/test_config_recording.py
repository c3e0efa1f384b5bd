from __future__ import annotations

import socket
from pathlib import Path

import pytest

from extproc import config
from extproc.config_recording import AzureBlobWitness, FileFeed, FileWitness, HttpWitness, Places, SyslogFeed
from extproc.errors import ConfigError

PLAIN = """\
policy: policy.yaml
store: { sqlite: db/record.db }
issuers: [{ kind: oidc, issuer: 'https://idp.example', audiences: [gateway] }]
"""


def places(folder: Path, text: str) -> Places:
    (folder / "gateway.yaml").write_text(text)
    return config.load_settings(folder / "gateway.yaml").places(folder)


def recording(folder: Path, section: str) -> Places:
    return places(folder, f"{PLAIN}recording: {section}\n")


def test_a_plain_file_has_the_defaults(tmp_path: Path) -> None:
    found = places(tmp_path, PLAIN)
    settings = found.recording
    assert settings.replica == socket.gethostname()
    assert (settings.encryption, settings.feeds) == (None, [])
    assert settings.checkpoints.witnesses == [FileWitness(kind="file", path=Path("witness.log"))]
    assert settings.spool.reserve_bytes < settings.spool.max_bytes


def test_the_record_is_beside_the_file_and_all_else_in_the_state_folder(tmp_path: Path) -> None:
    found = places(tmp_path, f"{PLAIN}state: kept\n")
    assert found.record == tmp_path / "db" / "record.db"
    kept = {found.spool, found.approvals, found.checkpoint_key, found.fingerprint_key}
    assert {path.parent for path in kept} == {tmp_path / "kept"}
    assert len(kept) == 4
    elsewhere = places(tmp_path, f"{PLAIN}state: /var/lib/x\nrecording: {{ spool: {{ folder: /fast }} }}\n")
    assert (elsewhere.spool, elsewhere.approvals) == (Path("/fast"), Path("/var/lib/x/approvals.db"))


def test_everything_of_the_section_arrives(tmp_path: Path) -> None:
    section = """
  replica: pod-1
  spool: { max_bytes: 5000, reserve_bytes: 100, keep_seconds: 60 }
  checkpoints:
    name: acme/gateway
    key_file: /keys/sign
    entries: 5
    seconds: 1.5
    idle_seconds: 20
    witnesses:
      - { kind: file, path: '-' }
      - { kind: http, url: 'https://witness.example', token_file: token }
      - { kind: azure-blob, account_url: 'https://acme.blob.example', container: notes }
  encryption: { key_file: wrap }
  feeds:
    - { kind: file, path: feed.ndjson }
    - { kind: syslog, address: 'tcp://127.0.0.1:514' }
    - { kind: webhook, url: 'https://siem.example/s3cret', key_file: key }"""
    found = recording(tmp_path, section).recording
    assert (found.replica, found.spool.max_bytes, found.spool.keep_seconds) == ("pod-1", 5000, 60)
    checkpoints = found.checkpoints
    assert (checkpoints.name, checkpoints.key_file) == ("acme/gateway", Path("/keys/sign"))
    assert (checkpoints.entries, checkpoints.seconds, checkpoints.idle_seconds) == (5, 1.5, 20)
    assert [type(one) for one in checkpoints.witnesses] == [FileWitness, HttpWitness, AzureBlobWitness]
    assert found.encryption is not None
    assert found.encryption.key_file == Path("wrap")
    assert [one.kind for one in found.feeds] == ["file", "syslog", "webhook"]
    assert found.feeds[:2] == [
        FileFeed(kind="file", path=Path("feed.ndjson")),
        SyslogFeed(kind="syslog", address="tcp://127.0.0.1:514"),
    ]
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{ spool: { max_bytes: 0 } }", "recording.spool.max_bytes"),
        ("{ spol: {} }", "recording.spol: unknown key"),
        ("{ replica: 'a b' }", "recording.replica"),
        ("{ checkpoints: { name: 'a+b' } }", "recording.checkpoints.name"),
        ("{ checkpoints: { witnesses: [{ kind: fax }] } }", "recording.checkpoints.witnesses[0]"),
        (
            "{ checkpoints: { witnesses: [{ kind: http, url: 'http://s3cret.example' }] } }",
            "recording.checkpoints.witnesses[0]: the address must be an https URL",
        ),
        ("{ encryption: {} }", "recording.encryption: expected one of key_file and key_vault_key"),
        (
            "{ encryption: { key_file: k, key_vault_key: 'https://v.example/keys/k' } }",
            "recording.encryption: expected one of key_file and key_vault_key",
        ),
        (
            "{ feeds: [{ kind: syslog, address: 'tcp://host' }] }",
            "recording.feeds[0].address: expected udp://HOST:PORT",
        ),
        ("{ feeds: [{ kind: syslog, address: 'tcp://host:65536' }] }", "recording.feeds[0].address: expected"),
        ("{ feeds: [{ kind: syslog, address: 'udp://host:0' }] }", "recording.feeds[0].address: expected"),
        ("{ feeds: [{ kind: syslog, address: 'unix:///' }] }", "recording.feeds[0].address: expected"),
        (
            "{ feeds: [{ kind: webhook, url: 'https://u:s3cret@siem.example', key_file: k }] }",
            "recording.feeds[0]: the address",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_without_an_address(tmp_path: Path, section: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recording(tmp_path, section)
    assert "gateway.yaml:4: " in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("store", ["{}", "{ sqlite: a, cosmos: { endpoint: 'https://acme.example' } }"])
def test_there_is_exactly_one_store(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match="store: expected one of sqlite and cosmos"):
        places(tmp_path, PLAIN.replace("{ sqlite: db/record.db }", store))
