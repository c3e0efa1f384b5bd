from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner, Result

from extproc.commands.drain import drain
from extproc.errors import ConfigError, ExtprocError


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(drain)
    return CliRunner().invoke(app, arguments)


def test_an_address_that_is_none_is_an_error_of_the_configuration() -> None:
    ran = run("--seconds", "1", "--admin", "127.0.0.1:9901")
    assert isinstance(ran.exception, ConfigError)
    with pytest.raises(ConfigError, match="--admin: the address"):
        raise ran.exception


def test_without_an_envoy_it_fails_rather_than_saying_that_nothing_runs() -> None:
    # Port 9 of loopback (discard) has no listener.
    ran = run("--seconds", "1", "--admin", "http://127.0.0.1:9")
    assert type(ran.exception) is ExtprocError


def test_the_longest_wait_has_no_default() -> None:
    assert run().exit_code == 2
