"""opencode, signed in to its provider `github-copilot`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from extproc.client_settings.settings import Client as Kind
from tests.clients import install
from tests.clients.client import Client, program

# What it would fetch from elsewhere while it starts.
_OFFLINE = {
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
}


def _package() -> Path | None:
    return install.npm_package(f"opencode-{install.native()}")


def _version() -> str | None:
    package = _package()
    return None if package is None else str(json.loads((package / "package.json").read_text())["version"])


def _command(prompt: str, model: str) -> list[str]:
    package = _package()
    assert package is not None
    return [str(package / "bin" / "opencode"), "run", "--auto", "--model", f"github-copilot/{model}", prompt]


def _client(name: str, model: str) -> Client:
    return Client(name, _version, program(Kind.OPENCODE, partial(_command, model=model), lambda: _OFFLINE))


CLIENTS = (_client("opencode, Claude", "claude-sonnet-4.6"), _client("opencode, GPT", "gpt-5.5"))
