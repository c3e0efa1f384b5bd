"""Copilot CLI, and the Copilot SDK, which drives the same program over JSON-RPC."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from extproc.client_settings.settings import Client as Kind
from extproc.client_settings.settings import Mode
from tests.clients import install
from tests.clients.client import Client, program

MESSAGES_MODEL, RESPONSES_MODEL, PATCH_MODEL = "claude-sonnet-4.6", "gpt-5-mini", "gpt-5.5"
CHAT_MODEL = "gemini-3.8-flash"
_SDK_PROGRAM = Path(__file__).parent / "programs" / "copilot_sdk_agent.py"


def binary() -> Path | None:
    """Return Copilot CLI's program for this machine; Node is needed only to install it."""
    package = install.npm_package(f"@github/copilot-{install.native()}")
    return None if package is None else package / "copilot"


def cli_version() -> str | None:
    """Return the installed version of the CLI."""
    package = install.npm_package("@github/copilot")
    found = package is not None and binary() is not None
    return str(json.loads((package / "package.json").read_text())["version"]) if package and found else None


def cli_command(prompt: str, model: str = MESSAGES_MODEL) -> list[str]:
    """Return the command line of one prompt whose tools run without asking."""
    return [str(binary()), "-p", prompt, "--allow-all-tools", "--model", model]


def _extra() -> dict[str, str]:
    return {"COPILOT_AUTO_UPDATE": "false"}


def _cli_with(model: str, name: str) -> Client:
    return Client(
        name,
        cli_version,
        program(Kind.COPILOT_CLI, partial(cli_command, model=model), _extra),
        quick=model == MESSAGES_MODEL,
        optional=True,
        needs="install Node with npm, then run `make test-clients`, which installs it",
    )


def _sdk_version() -> str | None:
    python = install.python()
    if python is None or binary() is None:
        return None
    [info] = python.parent.parent.glob("lib/*/site-packages/github_copilot_sdk-*.dist-info")
    return info.name.removeprefix("github_copilot_sdk-").removesuffix(".dist-info")


def _sdk_command(prompt: str) -> list[str]:
    return [str(install.python()), str(_SDK_PROGRAM), MESSAGES_MODEL, prompt]


def _sdk_extra() -> dict[str, str]:
    # Its own runtime is a download from GitHub; the CLI of the npm registry is the same program.
    return {**_extra(), "COPILOT_CLI_PATH": str(binary())}


CLIENTS = (
    _cli_with(MESSAGES_MODEL, "Copilot CLI, `/v1/messages`"),
    _cli_with(RESPONSES_MODEL, "Copilot CLI, `/responses`"),
    _cli_with(PATCH_MODEL, "Copilot CLI, `/responses` with patches"),
    _cli_with(CHAT_MODEL, "Copilot CLI, `/chat/completions`"),
    Client(
        "Copilot SDK (Python)",
        _sdk_version,
        program(Kind.COPILOT_CLI, _sdk_command, _sdk_extra),
        cannot={(Mode.URL, "refused"): "Once its account is refused it turns to GitHub itself, past the gateway."},
    ),
)
