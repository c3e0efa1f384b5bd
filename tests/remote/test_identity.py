from __future__ import annotations

from pathlib import Path

import keyring
import msgspec
import pytest

from extproc.errors import ConfigError
from extproc.remote.identity import token_for
from extproc.secret import Secret
from extproc.signin.kept import SignIn, keeper_of
from extproc.signin.profile import Profile
from tests.signin.serving import NO_KEYRING

CONSOLE = "https://console.example"


def home(folder: Path, console: str | None = CONSOLE, *, ca_pem: str | None = None) -> dict[str, str]:
    """Sign in; return the environment in which that is so."""
    keyring.set_keyring(NO_KEYRING)
    environ = {"HOME": str(folder)}
    profile = Profile(gateway="https://g.example", issuer="https://i.example", client_id="c")
    profile = msgspec.structs.replace(profile, console=console, ca_pem=ca_pem)
    keeper_of(environ).save(SignIn(profile, "alice", Secret("kept.t.k"), None, 0.0, 1e12))
    return environ


@pytest.mark.parametrize("server", [CONSOLE, f"{CONSOLE}/"])
def test_the_kept_token_goes_to_the_console_of_the_sign_in(tmp_path: Path, server: str) -> None:
    assert token_for(server, None, home(tmp_path))[0].reveal() == "kept.t.k"


@pytest.mark.parametrize(
    "server",
    [
        *("https://evil.example", "https://console.example.evil.example", "https://console.example:8443"),
        *("http://console.example", "https://console.example/evil", "https://console.examples"),
    ],
)
def test_the_kept_token_goes_to_no_other(tmp_path: Path, server: str) -> None:
    with pytest.raises(ConfigError, match=f"the sign-in is for the console {CONSOLE}"):
        token_for(server, None, home(tmp_path))


def test_a_token_that_is_given_needs_no_sign_in_readable_or_not(tmp_path: Path) -> None:
    assert token_for("https://other.example", "g.i.v", home(tmp_path))[0].reveal() == "g.i.v"
    (tmp_path / ".config" / "copilot-extproc" / "sign-in.json").chmod(0o644)
    assert token_for("https://other.example", "g.i.v", {"HOME": str(tmp_path)})[0].reveal() == "g.i.v"
    with pytest.raises(ConfigError, match="others can read it"):
        token_for(CONSOLE, None, {"HOME": str(tmp_path)})
    assert token_for(CONSOLE, "g.i.v", {})[0].reveal() == "g.i.v"


def test_the_authority_of_a_sign_in_counts_for_its_own_console_alone(tmp_path: Path) -> None:
    # It is no certificate: who looks at it finds out.
    token_for("https://other.example", "g.i.v", home(tmp_path, ca_pem="none"))
    with pytest.raises(ConfigError, match="ca_pem holds no certificate"):
        token_for(CONSOLE, "g.i.v", home(tmp_path, ca_pem="none"))
