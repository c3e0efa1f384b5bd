from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commanding import Extproc, runner


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "dev")


@pytest.mark.parametrize("command", [("up",), ("token", "--user", "alice"), ("demo",)])
def test_an_installation_without_the_development_gateway_says_so(
    extproc: Extproc, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "extproc.dev", None)
    run = extproc(*command)
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        "extproc: dev: this installation has no development gateway; it is in the source checkout (`make run`)\n"
    )


def test_with_it_the_commands_are_there(extproc: Extproc) -> None:
    run = extproc("token", "--user", "nobody")
    assert (run.code, "is none of alice" in run.err) == (2, True)
    assert "Run everything on this machine" in extproc("up", "--help").out
