from __future__ import annotations

import asyncio
import io
import json
import re
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlencode

import keyring
import pytest
from keyring.errors import KeyringLocked

from extproc import cli
from extproc.commands.acting import principal_of
from extproc.dev import files
from extproc.errors import ConfigError, ExtprocError
from extproc.identity.token import parse
from extproc.secret import Secret
from extproc.signin.current import current_profile, current_token
from extproc.signin.kept import SignIn, keeper_of, load
from extproc.signin.profile import WELL_KNOWN, Profile
from tests.commanding import Extproc, runner
from tests.issuing import dev_issuer
from tests.signin.serving import NO_KEYRING, MemoryKeyring

VARIABLES = (
    *("EXTPROC_GATEWAY", "EXTPROC_TOKEN_FILE", "EXTPROC_AUDIENCE", "GITHUB_ACTIONS", "AZURE_FEDERATED_TOKEN_FILE"),
    *("ACTIONS_ID_TOKEN_REQUEST_URL", "SSH_CONNECTION", "SSH_TTY", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"),
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the development issuer of a state directory; return the directory."""
    made = tmp_path_factory.mktemp("dev") / "state"
    with dev_issuer(made):
        yield made


def fetched(url: str, form: str | None = None) -> bytes:
    """Ask as a browser does: redirects are followed."""
    with urllib.request.urlopen(url, None if form is None else form.encode()) as page:  # noqa: S310 - loopback
        content: bytes = page.read()
    return content


@contextmanager
def telling(documents: dict[str, bytes]) -> Iterator[str]:
    """Serve some documents; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = documents.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"<html>")

        def log_message(self, *told: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def gateway(state: Path) -> Iterator[str]:
    documents: dict[str, bytes] = {}
    with telling(documents) as url:
        issuer = files.ports_of(state).issuer_url
        profile = {"gateway": url, "issuer": issuer, "client_id": "extproc-cli", "scopes": ["groups"]}
        documents[WELL_KNOWN] = json.dumps({**profile, "proxy": "http://127.0.0.1:3128"}).encode()
        yield url


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Extproc]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    keyring.set_keyring(NO_KEYRING)
    yield runner(monkeypatch, capsys, tmp_path)
    keyring.set_keyring(NO_KEYRING)


@pytest.fixture
def alice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Alice sit before this machine's browser."""

    def sign_in(url: str) -> bool:
        # The redirect is followed to the loopback address, as a browser follows it.
        endpoint, _, query = url.partition("?")
        assert b"You can close this window" in fetched(endpoint, f"{query}&user=alice")
        return True

    monkeypatch.setattr(webbrowser, "open", sign_in)


def environ_in(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), **more}


# --- login, whoami, logout -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alice")
def test_a_person_signs_in_with_the_browser_and_gets_tokens(
    extproc: Extproc, gateway: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    run = extproc("login", gateway)
    issuer = files.ports_of(state).issuer_url
    assert (run.code, run.err) == (0, "")
    assert f"{issuer}/authorize?" in run.out
    signed_in = rf"Signed in as alice \(issuer {issuer}\) until \d\d:\d\d; refreshed automatically\."
    assert re.search(signed_in, run.out)
    assert "Next: `extproc run -- copilot`" in run.out
    file = tmp_path / "config" / "copilot-extproc" / "sign-in.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    printed = extproc("token")
    assert (printed.code, printed.err, printed.out.count("\n")) == (0, "", 1)
    claims = parse(printed.out.strip()).claims
    assert (claims["sub"], claims["aud"]) == ("alice", files.AUDIENCE)
    assert extproc("token", "--prefix", "gho_").out == f"gho_{printed.out}"
    assert printed.out.strip() not in run.out

    who = extproc("whoami")
    assert who.code == 0
    assert re.fullmatch(
        rf"alice \(issuer {issuer}, gateway {gateway}\), token until \d{{4}}-.*, refreshed automatically\n", who.out
    )
    assert current_profile(environ_in(tmp_path)).proxy == "http://127.0.0.1:3128"
    assert current_token(environ_in(tmp_path)) == printed.out.strip()


@pytest.mark.usefixtures("alice")
def test_who_signs_out_has_no_token_any_more_here_or_at_the_issuer(
    extproc: Extproc, gateway: str, state: Path, tmp_path: Path
) -> None:
    assert extproc("login", gateway, "--browser").code == 0
    kept = load(environ_in(tmp_path))
    run = extproc("logout")
    assert (run.code, run.out, run.err) == (0, "Signed out.\n", "")
    assert kept is not None
    assert kept.refresh_token is not None
    form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token.reveal(), "client_id": "extproc-cli"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetched(f"{kept.profile.issuer}/token", urlencode(form))
    assert json.load(refused.value)["error"] == "invalid_grant"
    refused.value.close()
    for command in ("token", "whoami"):
        run = extproc(command)
        assert (run.code, run.out, run.err) == (1, "", "extproc: not signed in: run `extproc login`\n")
    assert extproc("logout").out == "Nobody is signed in now.\n"


@pytest.mark.usefixtures("alice")
def test_a_keyring_keeps_the_sign_in_unless_a_file_is_asked_for(extproc: Extproc, gateway: str, tmp_path: Path) -> None:
    ring = MemoryKeyring()
    keyring.set_keyring(ring)
    file = tmp_path / "config" / "copilot-extproc" / "sign-in.json"
    assert extproc("login", gateway, "--browser").code == 0
    assert (len(ring.entries), file.exists(), extproc("token").code) == (1, False, 0)
    assert extproc("login", gateway, "--browser", "--file").code == 0
    assert (file.exists(), extproc("token").code) == (True, 0)
    assert extproc("logout").code == 0
    assert (ring.entries, file.exists()) == ({}, False)


@pytest.mark.parametrize(
    "variables",
    [{}, {"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}],
)
def test_without_a_browser_at_hand_the_code_is_entered_elsewhere(
    extproc: Extproc,
    gateway: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = []

    async def person(seconds: float) -> None:
        assert seconds == 5
        told.append(capsys.readouterr().out)
        shown = re.search(r"open (http\S+/device) and enter the code (\S+)\n", told[0])
        assert shown is not None
        await asyncio.to_thread(fetched, shown[1], urlencode({"user_code": shown[2], "user": "carol"}))

    monkeypatch.setattr(asyncio, "sleep", person)
    run = extproc("login", gateway)
    assert (run.code, run.err) == (0, "")
    assert "Signed in as carol" in run.out


@pytest.mark.usefixtures("alice")
def test_what_is_given_goes_before_what_the_gateway_tells(
    extproc: Extproc, gateway: str, state: Path, tmp_path: Path
) -> None:
    assert extproc("login", gateway, "--browser", "--client-id", "other", "--scope", "a", "--use", "id_token").code == 0
    profile = current_profile(environ_in(tmp_path))
    assert (profile.client_id, profile.scopes, profile.use) == ("other", ("a",), "id_token")
    assert profile.proxy == "http://127.0.0.1:3128"
    assert parse(current_token(environ_in(tmp_path))).claims["aud"] == "other"
    # With issuer and client the gateway need not even be there.
    issuer = files.ports_of(state).issuer_url
    run = extproc("login", "http://127.0.0.1:1", "--browser", "--issuer", issuer, "--client-id", "extproc-cli")
    assert (run.code, run.err) == (0, "")
    assert current_profile(environ_in(tmp_path)).gateway == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("http://gateway.example",), 2, "the gateway's address must be an https URL"),
        (("http://127.0.0.1:1",), 1, "the request failed (ClientConnectorError); is this the gateway's address?"),
        (("http://127.0.0.1:1", "--issuer", "http://id.example", "--client-id", "a"), 2, "issuer must be an https URL"),
        (("http://127.0.0.1:1", "--issuer", "http://127.0.0.1:1", "--client-id", "a"), 1, "openid-configuration: the"),
        (("http://127.0.0.1:1", "--use", "refresh_token"), 2, "refresh_token"),
    ],
)
def test_a_login_that_cannot_work_says_why(extproc: Extproc, arguments: tuple[str, ...], code: int, why: str) -> None:
    run = extproc("login", *arguments)
    assert (run.code, run.out) == (code, "")
    assert why in run.err


def test_a_gateway_that_answers_with_a_page_is_named(extproc: Extproc) -> None:
    with telling({WELL_KNOWN: b"<html>welcome</html>"}) as url:
        run = extproc("login", url)
    assert (run.code, run.out) == (1, "")
    assert run.err == f"extproc: {url}{WELL_KNOWN}: the answer is not JSON; is this the gateway's address?\n"


def test_a_sign_in_that_is_refused_keeps_nothing(
    extproc: Extproc, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str) -> bool:
        callback = re.search(r"redirect_uri=(http[^&]+)", url)
        state = re.search(r"state=([^&]+)", url)
        issuer = url.partition("/authorize")[0]
        assert callback
        assert state
        address = unquote(callback[1])
        query = urlencode({"error": "access_denied", "state": state[1], "iss": issuer})
        fetched(f"{address}?{query}")
        return True

    monkeypatch.setattr(webbrowser, "open", refuse)
    run = extproc("login", gateway, "--browser")
    assert (run.code, run.err) == (1, "extproc: access_denied\n")
    assert load(environ_in(tmp_path)) is None


def test_a_sign_in_that_cannot_be_read_is_named_and_can_be_removed(extproc: Extproc, tmp_path: Path) -> None:
    file = keeper_of(environ_in(tmp_path)).file
    file.parent.mkdir(parents=True)
    file.touch(mode=0o600)
    file.write_text("{")
    for command in ("token", "whoami"):
        run = extproc(command)
        assert (run.code, run.out) == (1, "")
        assert f"{file}: this is not a sign-in: run `extproc login`" in run.err
    file.chmod(0o644)
    run = extproc("token")
    assert (run.code, run.out) == (2, "")
    assert "others can read it (mode 0644)" in run.err
    assert extproc("logout").code == 0
    assert not file.exists()


def test_a_sign_out_that_the_issuer_does_not_hear_of_is_told(extproc: Extproc, state: Path, tmp_path: Path) -> None:
    stored = {
        "profile": {"gateway": "http://127.0.0.1:1", "issuer": "http://127.0.0.1:1", "client_id": "a"},
        "name": "alice",
        "token": "a.b.c",
        "refresh_token": "r",
        "obtained_at": 1.0,
        "expires_at": 2.0,
    }
    file = keeper_of(environ_in(tmp_path)).file
    file.parent.mkdir(parents=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(stored))
    run = extproc("logout")
    assert (run.code, run.out, file.exists()) == (1, "", False)
    assert "the issuer was not told that this sign-in has ended: " in run.err


@pytest.mark.usefixtures("alice")
def test_a_login_without_an_address_is_for_the_gateway_of_the_last_one(extproc: Extproc, gateway: str) -> None:
    assert extproc("login", gateway, "--browser").code == 0
    run = extproc("login", "--browser")
    assert (run.code, run.err) == (0, "")
    assert f"for the gateway {gateway}." in run.out


@pytest.mark.usefixtures("alice")
def test_it_is_told_what_is_asked_for_before_anybody_signs_in(extproc: Extproc, gateway: str, state: Path) -> None:
    told = extproc("login", gateway, "--browser").out.splitlines()
    issuer = files.ports_of(state).issuer_url
    assert told[:2] == [
        f"Signing in at {issuer} as the client extproc-cli for the gateway {gateway}.",
        "Asked for: openid offline_access groups.",
    ]


@pytest.mark.usefixtures("alice")
def test_a_variable_does_not_lead_the_token_of_a_sign_in_to_another_gateway(
    extproc: Extproc, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extproc("login", gateway, "--browser").code == 0
    monkeypatch.setenv("EXTPROC_GATEWAY", f"{gateway}/")
    assert extproc("token").code == 0
    profile = {"gateway": gateway, "issuer": "https://id.example", "client_id": "a", "proxy": "https://evil.example:1"}
    with telling({WELL_KNOWN: json.dumps(profile).encode()}) as other:
        monkeypatch.setenv("EXTPROC_GATEWAY", other)
        for command in (("env",), ("run", "--", "true"), ("token",)):
            run = extproc(*command)
            assert (run.code, run.out) == (2, "")
            assert f"EXTPROC_GATEWAY names {other}, but the sign-in is for {gateway}" in run.err


def test_a_place_that_cannot_be_written_is_told_before_anybody_signs_in(
    extproc: Extproc, gateway: str, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "copilot-extproc").touch()
    run = extproc("login", gateway, "--file", "--device")
    assert (run.code, run.out) == (1, "")
    assert "sign-in.lock: it cannot be made" in run.err


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("alice")
def test_on_a_terminal_the_first_sign_in_for_a_gateway_is_asked_about(
    extproc: Extproc,
    gateway: str,
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def at_terminal(typed: str, *arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["extproc", "login", "--browser", *arguments])
        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(typed.encode())))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().out

    issuer = files.ports_of(state).issuer_url
    question = f"Sign in for {gateway} at {issuer} (client extproc-cli)? [y/N]: "
    for typed in ("\n", "n\n", ""):
        code, out = at_terminal(typed, gateway)
        assert (code, question in out, "http://127.0.0.1" in out.partition(question)[2]) == (1, True, False)
        assert load(environ_in(tmp_path)) is None
    code, out = at_terminal("y\n", gateway)
    assert (code, question in out, "Signed in as alice" in out) == (0, True, True)
    # Again for the same one: not asked.
    assert question not in at_terminal("", gateway)[1]
    assert at_terminal("")[0] == 0
    # For another gateway, or at another issuer, it is the first one.
    other = ("--issuer", issuer, "--client-id", "extproc-cli")
    assert at_terminal("", "http://127.0.0.1:1", *other)[0] == 1
    assert at_terminal("", "http://127.0.0.1:1", *other, "--yes")[0] == 0


@pytest.mark.usefixtures("alice")
def test_a_new_sign_in_ends_the_one_before_it_at_the_issuer(extproc: Extproc, gateway: str, tmp_path: Path) -> None:
    assert extproc("login", gateway, "--browser").code == 0
    before = load(environ_in(tmp_path))
    assert extproc("login", gateway, "--browser").code == 0
    after = load(environ_in(tmp_path))
    codes = []
    for kept in (before, after):
        assert kept is not None
        assert kept.refresh_token is not None
        form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token.reveal()}
        try:
            fetched(f"{kept.profile.issuer}/token", urlencode({**form, "client_id": "extproc-cli"}))
            codes.append(200)
        except urllib.error.HTTPError as refused:
            codes.append(refused.code)
            refused.close()
    assert codes == [400, 200]


@pytest.mark.usefixtures("alice")
def test_an_issuer_that_is_gone_keeps_nobody_from_signing_in(extproc: Extproc, gateway: str, tmp_path: Path) -> None:
    keep(tmp_path, Secret("r"), 2.0)
    run = extproc("login", gateway, "--browser")
    assert (run.code, run.err) == (0, "")


@pytest.mark.usefixtures("alice")
def test_who_signs_out_leaves_nothing_behind(extproc: Extproc, gateway: str, tmp_path: Path) -> None:
    assert extproc("login", gateway, "--browser").code == 0
    folder = tmp_path / "config" / "copilot-extproc"
    for name in ("ca-01234567.pem", "ca-bundle-01234567.pem"):
        (folder / name).touch()
    assert extproc("logout").code == 0
    assert list(folder.iterdir()) == []


def keep(tmp_path: Path, refresh_token: Secret | None, expires_at: float) -> None:
    profile = Profile(gateway="http://127.0.0.1:1", issuer="http://127.0.0.1:1", client_id="a")
    keeper_of(environ_in(tmp_path)).save(SignIn(profile, "alice", Secret("t.o.k"), refresh_token, 1.0, expires_at))


def test_a_sign_in_that_has_expired_is_none(extproc: Extproc, tmp_path: Path) -> None:
    keep(tmp_path, None, 2.0)
    run = extproc("whoami")
    assert (run.code, run.out) == (1, "")
    assert re.fullmatch(r"extproc: the sign-in of alice \(.*\) expired \S+ \S+: run `extproc login`\n", run.err)
    keep(tmp_path, Secret("r"), 2.0)
    assert "refreshed automatically" in extproc("whoami").out
    keep(tmp_path, None, time.time() + 60)
    assert extproc("whoami").out.endswith("not refreshed\n")


def test_what_goes_before_the_sign_in_is_told(
    extproc: Extproc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "EXTPROC_TOKEN"):
        monkeypatch.setenv(name, "x")
        told = f"; tokens come from {name}, which goes before a sign-in\n"
        run = extproc("whoami")
        assert (run.code, run.err) == (1, f"extproc: not signed in: run `extproc login`{told}")
        keep(tmp_path, Secret("r"), 2.0)
        run = extproc("whoami")
        assert (run.code, run.out.endswith(told)) == (0, True)
        extproc("logout")


def test_windows_is_told_what_is_needed() -> None:
    # Windows has no such module.
    program = "import sys; sys.modules['fcntl'] = None; from extproc.cli import main; main()"
    for command in ("login", "token", "logout"):
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-c", program, command], env={"HOME": "/nowhere"}, capture_output=True, check=False
        )
        told = b"extproc: signing in needs Linux or macOS: on Windows use WSL, where the client runs too\n"
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"", told)


class LockedKeyring(MemoryKeyring):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked


@pytest.mark.usefixtures("alice")
def test_a_locked_keyring_does_not_keep_the_issuer_from_being_told(
    extproc: Extproc, gateway: str, tmp_path: Path
) -> None:
    assert extproc("login", gateway, "--browser", "--file").code == 0
    kept = load(environ_in(tmp_path))
    assert kept is not None
    assert kept.refresh_token is not None
    keyring.set_keyring(LockedKeyring())
    run = extproc("logout")
    assert (run.code, run.out) == (1, "")
    assert "the keyring does not answer (KeyringLocked)" in run.err
    form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token.reveal(), "client_id": "extproc-cli"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetched(f"{kept.profile.issuer}/token", urlencode(form))
    refused.value.close()


# --- token -----------------------------------------------------------------------------------------------------------


def test_a_token_is_taken_from_the_first_place_that_has_one(extproc: Extproc, tmp_path: Path) -> None:
    named, usual = tmp_path / "named", tmp_path / "usual"
    named.write_text("na.m.ed\n")
    usual.write_text("us.u.al\n")
    documents = {"/?audience=copilot-extproc": b'{"value": "ac.ti.ons"}', "/?audience=b": b'{"value": "au.di.b"}'}
    with telling(documents) as url:
        environ = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{url}/",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner",
            "AZURE_FEDERATED_TOKEN_FILE": "/nowhere",
        }
        assert current_token(environ) == "ac.ti.ons"
        assert current_token({**environ, "EXTPROC_AUDIENCE": "b"}) == "au.di.b"
        assert current_token(environ, audience="b") == "au.di.b"
        environ["EXTPROC_TOKEN_FILE"] = str(usual)
        assert current_token(environ) == "us.u.al"
        environ["EXTPROC_TOKEN"] = "va.ri.able"
        assert current_token(environ) == "va.ri.able"
        assert current_token(environ, token_file=named) == "na.m.ed"
    with pytest.raises(ConfigError, match="but not AZURE_CLIENT_ID and AZURE_TENANT_ID"):
        current_token({"AZURE_FEDERATED_TOKEN_FILE": "/nowhere"})


def test_token_prints_what_it_was_given(extproc: Extproc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("fi.l.e")
    assert extproc("token", "--token-file", "file").out == "fi.l.e\n"
    with telling({"/?audience=b": b'{"value": "au.di.b"}'}) as url:
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{url}/")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
        assert extproc("token", "--audience", "b", "--prefix", "github_pat_").out == "github_pat_au.di.b\n"
        run = extproc("token")
        assert (run.code, run.out) == (1, "")
        assert "GitHub Actions gave no token: the answer has status 404" in run.err
    monkeypatch.setenv("EXTPROC_TOKEN", "two words")
    run = extproc("token")
    assert (run.code, run.out, run.err) == (2, "", "extproc: EXTPROC_TOKEN: expected one token on one line\n")
    assert extproc("token", "--prefix", "glpat-").code == 2


def test_a_job_that_may_not_have_a_token_is_told_what_it_lacks(
    extproc: Extproc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run = extproc("token")
    assert (run.code, run.out) == (1, "")
    assert "`permissions: id-token: write`" in run.err


# --- for other commands ----------------------------------------------------------------------------------------------


def test_a_gateway_that_is_named_is_asked_for_its_profile(extproc: Extproc, gateway: str, tmp_path: Path) -> None:
    assert current_profile(environ_in(tmp_path, EXTPROC_GATEWAY=gateway)).gateway == gateway
    with pytest.raises(ExtprocError, match="not signed in: run `extproc login`, or name the gateway"):
        current_profile(environ_in(tmp_path))


@pytest.mark.usefixtures("alice")
def test_who_is_signed_in_acts_unless_somebody_else_is_named(
    extproc: Extproc, gateway: str, state: Path, tmp_path: Path
) -> None:
    environ = environ_in(tmp_path)
    with pytest.raises(ConfigError, match=r"who acts\? Run `extproc login`"):
        principal_of(state, None, None, None, environ)
    assert extproc("login", gateway, "--browser").code == 0
    assert principal_of(state, None, None, None, environ).name == "alice"
    assert principal_of(state, None, None, "bob", environ).name == "bob"
    with pytest.raises(ExtprocError, match="not a JWT"):
        principal_of(state, None, "made-up", None, environ)
