"""Run `extproc` as its entry point does, in a folder of its own, and see what a person would."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backends import fail

from extproc import cli


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Extproc = Callable[..., Run]


def runner(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    *command: str,
    columns: int = 200,
) -> Extproc:
    """Return what runs `extproc COMMAND ARGUMENTS` with `stdin`; no stack trace is ever shown."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("EXTPROC_STATE_DIR", raising=False)
    monkeypatch.delenv("EXTPROC_TOKEN", raising=False)
    # No test meets the sign-in of who runs it.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]

    def run(*arguments: str, stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "argv", ["extproc", *command, *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        code = ended.value.code
        return Run(code if isinstance(code, int) else 0, out, err)

    return run
