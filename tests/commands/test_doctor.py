from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keyring
import pytest
import typer
from keyring.backends import fail
from typer.testing import CliRunner, Result

from extproc.commands.doctor import doctor, show
from extproc.doctor.check import Result as Found
from extproc.doctor.check import failed, ok, skipped
from extproc.errors import ConfigError

# Port 9 of loopback (discard) has no listener.
NOBODY = "http://127.0.0.1:9"

SETTINGS = """
policy: policy.yaml
store: {sqlite: record.db}
issuers: [{kind: oidc, issuer: "https://127.0.0.1:9", audiences: [a]}]
credentials: {one: {file: token}}
"""

Doctor = Any


@pytest.fixture
def run(tmp_path: Path) -> Doctor:
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    app = typer.Typer()
    app.command()(doctor)

    def run(*arguments: str, **environ: str) -> Result:
        known = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **environ}
        cleared = dict.fromkeys(["HTTPS_PROXY", "https_proxy", "EXTPROC_GATEWAY"])
        return CliRunner().invoke(app, ["--timeout", "0.2", *arguments], obj=known, env={**cleared, **environ})

    return run


def rows(ran: Result) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in map(json.loads, ran.output.splitlines())}


def test_without_a_gateway_and_a_proxy_what_is_outside_is_looked_at_all_the_same(run: Doctor) -> None:
    found = rows(run("--json"))
    assert {row["status"] for one, row in found.items() if not one.startswith("way-around.")} == {"skipped"}
    assert {"way-around.api.githubcopilot.com", "way-around.github.com"} < set(found)


def test_a_gateway_that_is_not_there_fails(run: Doctor) -> None:
    ran = run("--json", "--gateway", NOBODY)
    found = rows(ran)
    assert ran.exit_code == 1
    assert found["gateway.reachable"]["status"] == "failed"
    assert found["gateway.reachable"]["todo"]
    assert found["token.accepted"]["status"] == "skipped"


def test_gateway_and_proxy_are_those_of_the_environment(run: Doctor) -> None:
    ran = run("--json", EXTPROC_GATEWAY=NOBODY, HTTPS_PROXY="http://me:a-token@127.0.0.1:9")
    found = rows(ran)
    assert ran.exit_code == 1
    assert {found[one]["status"] for one in ("gateway.reachable", "proxy.connect", "proxy.confined")} == {"failed"}
    assert "a-token" not in ran.output


def test_an_address_is_tried_by_number(run: Doctor) -> None:
    assert rows(run("--json", "--address", "127.0.0.9"))["way-around.127.0.0.9"]["status"] == "ok"


def test_with_the_settings_the_gateway_itself_is_looked_at(run: Doctor, tmp_path: Path) -> None:
    ran = run("--json", "--config", str(tmp_path / "none.yaml"), HTTPS_PROXY="http://127.0.0.1:9")
    assert ran.exit_code == 1
    assert list(rows(ran)) == ["settings.valid"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gateway", "http://gateway.example"], "--gateway: the address must be an https URL"),
        (["--address", "github.com"], "--address: expected an IP address"),
        (["--proxy", "ftp://x"], "--proxy (or HTTPS_PROXY): expected"),
        (["--ca-file", "none.pem"], "none.pem: the certificates cannot be read"),
        (["--token-file", "none"], "none: the token file cannot be read"),
        (["--console"], "--console: expected with --config"),
        (["--token", "two words"], "--token: expected one token"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_the_configuration(run: Doctor, arguments: list[str], told: str) -> None:
    ran = run(*arguments)
    assert isinstance(ran.exception, ConfigError)  # the command line makes it one message and exit 2
    assert told in str(ran.exception)


def test_each_check_is_a_whole_line_with_what_to_do_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    found = [Found("a.b", ok("Fine.")), Found("c", failed("Bad [red]thing[/].", "Do it.")), Found("d", skipped("No."))]
    show(found, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ok      a.b: Fine.",
        "failed  c: Bad [red]thing[/].",
        "        To do: Do it.",
        "skipped d: No.",
        "1 ok, 1 failed, 1 skipped",
    ]


def test_nothing_is_logged_between_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(SETTINGS)
    (tmp_path / "policy.yaml").write_text("version: 1\ncredential: one\nrules: []\n")
    # Where nothing can be recorded nobody waits for the store.
    (tmp_path / "spool").touch()
    ran = subprocess.run(  # noqa: S603 - our own command
        [
            sys.executable,
            "-m",
            "extproc",
            "doctor",
            "--config",
            tmp_path / "gateway.yaml",
            "--console",
            "--timeout",
            "1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "failed  issuer.https://127.0.0.1:9.keys: " in ran.stdout
    assert ran.stderr == ""
