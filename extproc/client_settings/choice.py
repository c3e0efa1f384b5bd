"""Choose the clients and the mode where nobody named them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

from extproc.client_settings.settings import Client, Mode
from extproc.signin.profile import Profile

_BY_COMMAND = {
    "copilot": Client.COPILOT_CLI,
    "copilot-language-server": Client.LANGUAGE_SERVER,
    "code": Client.VSCODE,
    "code-insiders": Client.VSCODE,
    "opencode": Client.OPENCODE,
}
_ANY_COMMAND = (Client.OPENAI, Client.ANTHROPIC, Client.COPILOT_CLI)
_BETTER_BY_PROXY = {Client.VSCODE, Client.OPENCODE}


def clients_of(command: str) -> tuple[Client, ...]:
    """Return what a command's name says it is; a program we do not know may be built on any SDK, or start the CLI."""
    name = PurePath(command.replace("\\", "/")).name.lower()
    found = _BY_COMMAND.get(name.removesuffix(".exe").removesuffix(".cmd"))
    return _ANY_COMMAND if found is None else (found,)


def printed_mode(clients: Collection[Client], profile: Profile) -> Mode:
    """Return the mode for settings that are printed: a whole shell must not send all it does to the gateway.

    Clients that URL mode serves badly are the exception.
    """
    return Mode.PROXY if profile.proxy is not None and _BETTER_BY_PROXY.issuperset(clients) else Mode.URL


def run_mode(profile: Profile) -> Mode:
    """Return the mode for one command: through the proxy, where nothing leaves the command unseen, if there is one."""
    return Mode.URL if profile.proxy is None else Mode.PROXY
