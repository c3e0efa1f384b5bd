from __future__ import annotations

import pytest

from extproc.client_settings.choice import clients_of, printed_mode, run_mode
from extproc.client_settings.settings import Client, Mode
from extproc.signin.profile import Profile

WITHOUT = Profile(gateway="http://127.0.0.1:1", issuer="https://i.example", client_id="c")
WITH = Profile(gateway="http://127.0.0.1:1", issuer="https://i.example", client_id="c", proxy="http://127.0.0.1:2")


@pytest.mark.parametrize(
    ("command", "client"),
    [
        ("copilot", Client.COPILOT_CLI),
        ("/usr/local/bin/copilot", Client.COPILOT_CLI),
        ("C:\\Programs\\Copilot.EXE", Client.COPILOT_CLI),
        ("opencode", Client.OPENCODE),
        ("copilot-language-server", Client.LANGUAGE_SERVER),
        ("code.cmd", Client.VSCODE),
    ],
)
def test_a_known_command_is_its_client(command: str, client: Client) -> None:
    assert clients_of(command) == (client,)


@pytest.mark.parametrize("command", ["python", "copilot2", "", "x/copilot/y"])
def test_an_unknown_command_may_use_any_sdk(command: str) -> None:
    assert clients_of(command) == (Client.OPENAI, Client.ANTHROPIC, Client.COPILOT_CLI)


def test_a_command_is_run_through_the_proxy_where_there_is_one() -> None:
    assert (run_mode(WITH), run_mode(WITHOUT)) == (Mode.PROXY, Mode.URL)


def test_settings_for_a_shell_name_no_proxy_unless_the_client_needs_it() -> None:
    assert printed_mode([Client.COPILOT_CLI], WITH) is Mode.URL
    assert printed_mode([Client.OPENCODE], WITH) is Mode.PROXY
    assert printed_mode([Client.OPENCODE], WITHOUT) is Mode.URL
    assert printed_mode([Client.OPENCODE, Client.OPENAI], WITH) is Mode.URL
