from __future__ import annotations

import base64
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from extproc.commands.keys import app
from extproc.errors import ConfigError


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_public_key_is_printed_and_no_other(tmp_path: Path) -> None:
    ran = keys("make", "--out", str(tmp_path / "made"), "--name", "acme")
    assert ran.exit_code == 0
    assert f"public key: {(tmp_path / 'made' / 'checkpoint.key.pub').read_text()}" in ran.output
    assert ran.output.count("public key: acme+") == 1
    assert "az " not in ran.output
    assert not (tmp_path / "made" / "wrapping.key").exists()


def test_each_key_gets_a_command_that_puts_it_into_the_vault(tmp_path: Path) -> None:
    made = tmp_path / "of acme"
    ran = keys("make", "--out", str(made), "--wrapping", "--key-vault", "acme-vault")
    commands = [shlex.split(line) for line in ran.output.splitlines() if line.startswith("az ")]
    assert [line[line.index("--name") + 1] for line in commands] == [
        *("checkpoint-key", "fingerprint-key", "gateway-token-key", "wrapping-key"),
    ]
    for line in commands:
        assert line[:6] == ["az", "keyvault", "secret", "set", "--vault-name", "acme-vault"]
        assert line[-2:] == ["--encoding", "base64"]
        key = Path(line[line.index("--file") + 1]).read_bytes()
        assert base64.b64encode(key).decode() not in ran.output


def test_installing_says_what_was_there_already(tmp_path: Path) -> None:
    keys("make", "--out", str(tmp_path / "made"))
    install = ("install", "--from", str(tmp_path / "made"), "--state", str(tmp_path / "state"))
    assert keys(*install).output.count(": installed\n") == 3
    assert keys(*install).output.count(": there already, and the same\n") == 3


def test_what_is_in_the_way_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    ran = keys("install", "--from", str(tmp_path), "--state", str(tmp_path / "state"))
    assert isinstance(ran.exception, ConfigError)  # the command line makes it one message and exit 2
    with pytest.raises(ConfigError, match="checkpoint"):
        raise ran.exception
