from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest
import yaml

from extproc.certificates import operations
from extproc.certificates.operations import Wanted
from tests.certificates.handshake import DAY, certificates, client, contents, server, shake
from tests.commanding import Extproc, runner


@pytest.fixture
def ca(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "ca")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".extproc" / "ca"


def test_init_makes_what_a_client_accepts(ca: Extproc, folder: Path) -> None:
    ran = ca("init", "--host", "*.acme.ghe.com", "--name", "gateway.acme.example", "--name", "10.0.0.7")
    assert (ran.code, ran.err) == (0, "")
    assert "extproc ca show" in ran.out
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    shake(client(folder / "ca.pem"), server(folder), "api.acme.ghe.com")
    for name in ("gateway.acme.example", "10.0.0.7"):
        shake(client(folder / "ca.pem"), server(folder, "tls"), name)


def test_init_does_not_replace_an_authority(ca: Extproc, folder: Path) -> None:
    ca("init")
    before = contents(folder)
    ran = ca("init")
    assert ran.code == 2
    assert "extproc ca rotate" in ran.err
    assert contents(folder) == before


def test_another_folder_can_be_named(ca: Extproc, tmp_path: Path) -> None:
    assert ca("init", "--dir", "elsewhere").code == 0
    assert ca("show", "--dir", "elsewhere").code == 0
    assert not (tmp_path / ".extproc").exists()


@pytest.mark.parametrize("command", ["init", "show", "renew", "rotate"])
def test_a_file_in_the_folders_place_is_named(ca: Extproc, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    ran = ca(command, "--dir", "file")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("extproc: file")


@pytest.mark.parametrize("command", ["show", "renew", "rotate"])
def test_without_an_authority_it_is_said_how_to_make_one(ca: Extproc, command: str) -> None:
    ran = ca(command)
    assert ran.code == 2
    assert ".extproc/ca/ca.pem: there is no certificate authority; make one with `extproc ca init`" in ran.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "10.0.0.1"], "got the IP address '10.0.0.1'"),
        (["--name", "a_b"], "'a_b' cannot be in a certificate"),
        (["--certificate", "x.pem"], "--certificate and --key: expected both"),
        (["--certificate", "x.pem", "--key", "x.key"], "x.pem: there is no such file"),
    ],
)
def test_bad_arguments_are_named(ca: Extproc, folder: Path, arguments: list[str], expected: str) -> None:
    ran = ca("init", *arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert not (folder / "ca.pem").exists()


def test_show_says_what_it_is_and_how_to_trust_it(ca: Extproc, folder: Path) -> None:
    ca("init")
    ran = ca("show")
    assert ran.code == 0
    assert re.search(r"SHA-256 +([0-9a-f]{2}:){31}[0-9a-f]{2}$", ran.out, re.MULTILINE)
    assert "(3649 days left)" in ran.out
    assert "may sign for api.github.com, copilot-proxy.githubusercontent.com" in ran.out
    assert f"export NODE_EXTRA_CA_CERTS={folder / 'ca.pem'}" in ran.out
    assert "SSL_CERT_FILE" in ran.out


def test_show_gives_rows_and_the_file_itself(ca: Extproc, folder: Path) -> None:
    ca("init")
    rows = ca("show", "--json").rows
    assert [row["role"] for row in rows] == ["current", "listener", "interception"]
    assert all(row["faults"] == [] for row in rows)
    assert ca("show", "--pem").out == (folder / "ca.pem").read_text()


def test_show_fails_where_a_client_would_refuse(ca: Extproc, folder: Path) -> None:
    operations.init(folder, Wanted(), time.time() - 91 * DAY)
    for arguments in ([], ["--json"]):
        ran = ca("show", *arguments)
        assert ran.code == 1
        assert "it is expired: run `extproc ca renew`" in ran.out
    assert ca("renew").code == 0
    assert ca("show").code == 0


def test_renew_says_what_it_did_and_does_nothing_twice(ca: Extproc, folder: Path) -> None:
    operations.init(folder, Wanted(), time.time() - 61 * DAY)
    ran = ca("renew")
    assert ran.code == 0
    assert "tls.crt: made because it expires in 28 days; valid until" in ran.out
    assert "proxy.crt: made because" in ran.out
    before = contents(folder)
    assert ca("renew").out == ".extproc/ca: all certificates are fresh\n"
    assert contents(folder) == before
    assert "it was asked for" in ca("renew", "--force").out


def test_renew_fails_for_a_host_that_needs_another_authority_after_it_renewed_the_rest(
    ca: Extproc, folder: Path
) -> None:
    operations.init(folder, Wanted(), time.time() - 91 * DAY)
    ran = ca("renew", "--host", "api.acme.ghe.com")
    assert ran.code == 2
    assert "cannot sign for api.acme.ghe.com" in ran.err
    assert "extproc ca rotate" in ran.err
    shake(client(folder / "ca.pem"), server(folder), "api.github.com")


def test_hosts_come_from_the_settings_unless_they_are_named(ca: Extproc, folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / ".extproc" / "gateway.yaml"
    settings.parent.mkdir()
    text = yaml.safe_dump(
        {
            "policy": "policy.yaml",
            "store": {"sqlite": "record.db"},
            "issuers": [{"kind": "oidc", "issuer": "https://id.example", "audiences": ["gateway"]}],
            "proxy": {"hosts": ["api.acme.ghe.com"]},
        }
    )
    settings.write_text(text)
    assert ca("init").code == 0
    assert "api.acme.ghe.com" in ca("show", "--json").rows[-1]["names"]
    (tmp_path / "other.yaml").write_text(text.replace("api.acme.ghe.com", "x.api.acme.ghe.com"))
    for arguments in (["--host", "x.api.acme.ghe.com"], ["--config", "other.yaml"]):
        assert "it is for other names" in ca("renew", *arguments).out
        assert "x.api.acme.ghe.com" in ca("show", "--json").rows[-1]["names"]
        assert "it is for other names" in ca("renew").out
    settings.write_text(text.replace("api.acme.ghe.com", "Api.acme.ghe.com"))
    ran = ca("renew")
    assert ran.code == 2
    assert "gateway.yaml" in ran.err
    assert "Api.acme.ghe.com" in ran.err
    assert ca("renew", "--config", "missing.yaml").code == 2


def test_a_rotation_goes_in_two_steps_and_an_old_authority_can_be_forgotten(ca: Extproc, folder: Path) -> None:
    ca("init")
    old = certificates(folder / "ca.pem")
    begun = ca("rotate", "--host", "api.acme.ghe.com")
    assert begun.code == 0
    assert "extproc ca rotate --finish" in begun.out
    assert certificates(folder / "ca.pem")[:1] == old
    assert ca("rotate").code == 2
    assert [row["role"] for row in ca("show", "--json").rows][:2] == ["current", "announced"]

    ended = ca("rotate", "--finish", "--host", "api.acme.ghe.com")
    assert ended.code == 0
    assert "not signed by the current authority" in ended.out
    assert certificates(folder / "ca.pem")[1:] == old
    shake(client(folder / "ca.pem"), server(folder), "api.acme.ghe.com")
    assert ca("rotate", "--finish").code == 2

    assert "1 previous certificates" in ca("rotate", "--forget-old").out
    assert old[0] not in certificates(folder / "ca.pem")
    assert ca("show").code == 0


def test_an_own_authority_is_brought_at_the_first_step_only(ca: Extproc, folder: Path, tmp_path: Path) -> None:
    operations.init(tmp_path / "company", Wanted(), time.time())
    brought = ["--certificate", "company/ca.pem", "--key", "company/ca.key"]
    ca("init")
    ran = ca("rotate", "--finish", *brought)
    assert ran.code == 2
    assert "expected with the first step" in ran.err
    assert ca("rotate", *brought).code == 0
    assert ca("rotate", "--finish", "--forget-old").code == 0
    assert certificates(folder / "ca.pem") == certificates(tmp_path / "company" / "ca.pem")
