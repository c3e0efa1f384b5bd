from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extproc.certificates import operations
from extproc.commands.run import Tokens
from extproc.dev.keys import load_or_create, mint
from extproc.errors import ExtprocError
from extproc.secret import Secret
from extproc.signin.kept import Keeper, SignIn
from extproc.signin.profile import Profile
from tests.gateway_profile import TOKEN, SignedIn, telling
from tests.proxying import FakeProxy, listening, proxy, refusal
from tests.signin.serving import answering

PYTHON = sys.executable
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"
FETCH = "import urllib.request; print(urllib.request.urlopen('https://api.github.com/zen').read().decode())"


def text_of(path: str) -> str:
    return Path(path).read_text()


async def answer_zen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncalm()")
    await writer.drain()


@dataclass(frozen=True)
class World:
    """A gateway whose proxy takes TOKEN, and ends the TLS of `api.github.com` with its own authority."""

    extproc: SignedIn
    proxy: FakeProxy

    async def environment(self, *options: str, more: dict[str, str] | None = None) -> dict[str, Any]:
        ended = await self.extproc("run", *options, "--", PYTHON, "-c", SHOW, more=more)
        assert (ended.code, ended.err) == (0, "")
        found: dict[str, Any] = json.loads(ended.out)
        return found


@asynccontextmanager
async def gateway_of(folder: Path, *, has_proxy: bool = True) -> AsyncIterator[World]:
    operations.ensure(folder / "ca", (), time.time())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "ca" / "proxy.crt", folder / "ca" / "proxy.key")
    authority = (folder / "ca" / "ca.pem").read_text()
    async with listening(answer_zen, tls) as port, proxy(FakeProxy(("127.0.0.1", port), {TOKEN})) as fake:
        named = f"http://127.0.0.1:{fake.port}" if has_proxy else None
        async with telling(named, authority) as gateway:
            yield World(SignedIn(folder, gateway), fake)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with gateway_of(tmp_path) as made:
        yield made


async def test_a_command_speaks_https_through_the_gateway_and_never_sees_the_token(world: World) -> None:
    ended = await world.extproc("run", "--", PYTHON, "-c", f"{SHOW}\n{FETCH}")
    shown, fetched = ended.out.splitlines()
    assert (ended.code, fetched, ended.err) == (0, "calm()", "")
    assert TOKEN not in shown
    (head,) = world.proxy.heads
    assert head.startswith("CONNECT api.github.com:443 ")
    assert f"Proxy-Authorization: Bearer {TOKEN}" in head


async def test_what_the_environment_had_of_proxies_gives_way_and_the_rest_stays(world: World) -> None:
    had = {"https_proxy": "http://other", "HTTPS_PROXY": "http://other", "no_proxy": "*", "LESS": "-R"}
    found = await world.environment(more=had)
    assert found["LESS"] == "-R"
    assert found["https_proxy"] == found["HTTPS_PROXY"]
    assert found["HTTPS_PROXY"].startswith("http://extproc:")
    assert "*" not in found["no_proxy"] + found["NO_PROXY"]


SHOW_FILES = """
import os
for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"):
    print(os.environ[name])
    print(len(open(os.environ[name]).read()) > 100, oct(os.stat(os.path.dirname(os.environ[name])).st_mode))
"""


@pytest.mark.parametrize("home", [None, "/dev/null"])
async def test_a_pod_without_a_place_to_write_has_a_temporary_one(
    world: World, tmp_path: Path, home: str | None
) -> None:
    environ = {"PATH": os.environ["PATH"], "EXTPROC_GATEWAY": world.extproc.gateway, "TMPDIR": str(tmp_path)}
    (tmp_path / "token").write_text(TOKEN)
    environ["EXTPROC_TOKEN_FILE"] = str(tmp_path / "token")
    if home is not None:
        environ["HOME"] = home
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, "-m", "extproc", "run", "--", PYTHON, "-c", f"{SHOW_FILES}\n{FETCH}"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    added, one, bundle, other, fetched = out.decode().splitlines()
    assert (process.returncode, one, other, fetched, err) == (0, *["True 0o40700"] * 2, "calm()", b"")
    assert Path(added).parent == Path(bundle).parent
    assert Path(added).parent.parent == tmp_path
    assert not Path(added).parent.exists()


async def test_other_names_for_authorities_name_the_bundle_and_what_they_named_is_in_it(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "company.pem").write_text("-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n")
    had = dict.fromkeys(("CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), str(tmp_path / "company.pem"))
    found = await world.environment("--client", "copilot-cli", more=had)
    authority = (tmp_path / "ca" / "ca.pem").read_text()
    assert "REQUESTS_CA_BUNDLE" not in found
    for name in had:
        text = text_of(found[name])
        assert (authority in text, "BBBB" in text) == (True, True)


async def test_each_run_has_a_password_of_its_own(world: World) -> None:
    first, second = [await world.environment() for _ in range(2)]
    assert first["HTTPS_PROXY"] != second["HTTPS_PROXY"]


async def test_an_unknown_command_gets_the_settings_of_the_sdks_and_of_copilot_cli(world: World) -> None:
    found = await world.environment()
    assert {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "COPILOT_GITHUB_TOKEN", "NODE_EXTRA_CA_CERTS"} <= set(found)
    assert "OPENCODE_AUTH_CONTENT" not in found


async def test_a_client_that_is_named_goes_before_the_commands_name(world: World) -> None:
    found = await world.environment("--client", "opencode")
    assert "OPENCODE_AUTH_CONTENT" in found
    assert "OPENAI_BASE_URL" not in found


async def test_by_url_the_command_gets_the_gateways_address_and_the_token(world: World) -> None:
    found = await world.environment("--mode", "url")
    assert found["COPILOT_API_URL"] == world.extproc.gateway
    assert found["OPENAI_API_KEY"] == TOKEN
    assert "HTTPS_PROXY" not in found


async def test_without_a_proxy_the_mode_is_url(tmp_path: Path) -> None:
    async with gateway_of(tmp_path, has_proxy=False) as world:
        assert "COPILOT_API_URL" in await world.environment()


async def test_what_the_gateway_refused_is_told_once_when_the_command_has_ended(world: World) -> None:
    world.proxy.refused["api.github.com"] = refusal(403, "alice may not")
    ended = await world.extproc(
        "run", "--", "sh", "-c", f'"{PYTHON}" -c "$0" 2>/dev/null; "{PYTHON}" -c "$0" 2>&1', FETCH
    )
    assert ended.code == 1
    assert "403" in ended.out
    assert ended.err == "extproc: refused: api.github.com:443: 403 alice may not\n"


async def test_the_exit_code_is_passed_on_and_options_behind_the_command_are_its_own(world: World) -> None:
    assert (await world.extproc("run", "--", "sh", "-c", "exit 7")).code == 7
    assert (await world.extproc("run", "sh", "-c", "exit $1", "sh", "3", "--mode")).code == 3
    assert (await world.extproc("run", "--mode", "url", "sh", "-c", "exit 5")).code == 5


async def test_a_command_that_a_signal_ended_is_128_and_its_number(world: World) -> None:
    assert (await world.extproc("run", "--", "sh", "-c", "kill -KILL $$")).code == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
async def test_a_signal_is_forwarded_and_the_command_decides(world: World, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    process = await world.extproc.start("run", "--", "sh", "-c", script)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (9, b"got\n", b"")


COUNT = """
import os, signal, sys
seen = []
signal.signal(signal.SIGINT, lambda *_: (seen.append(1), os.kill(os.getppid(), signal.SIGTERM)))
# What extproc does about the first signal it has done before it forwards this one.
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"interrupted %d" % len(seen)), os._exit(4)))
print("ready", flush=True)
while True:
    signal.pause()
"""
IN_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
told = b""
while b"ready" not in told:
    told += os.read(terminal, 1000)
os.write(terminal, b"\\x03")
try:
    while piece := os.read(terminal, 1000):
        told += piece
except OSError:
    pass  # how a terminal of Linux says that nobody holds its other end
print(told.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


async def test_ctrl_c_in_a_terminal_reaches_the_command_once_and_extproc_waits_for_it(world: World) -> None:
    run = (PYTHON, "-m", "extproc", "run", "--", PYTHON, "-c", COUNT)
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, "-c", IN_TERMINAL, *run), env=world.extproc.environ, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == 4
    assert "interrupted 1" in out.decode()


async def test_what_is_ignored_already_stays_ignored(world: World) -> None:
    script = "trap 'echo got' HUP; kill -HUP $$; echo on"
    ended = await world.extproc("run", "--", "sh", "-c", script)
    assert ended.out == "got\non\n"
    command = "trap '' HUP; exec \"$@\""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", command, "sh", PYTHON, "-m", "extproc", "run", "--", "sh", "-c", script),
        env=world.extproc.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out == b"on\n"


async def test_whoever_is_not_signed_in_hears_it_before_the_command_starts(world: World, tmp_path: Path) -> None:
    for mode in ("url", "proxy"):
        ended = await replace(world.extproc, token=None)(
            "run", "--mode", mode, "--", "touch", str(tmp_path / "started")
        )
        assert ended.code == 1
        assert "extproc login" in ended.err
    assert not (tmp_path / "started").exists()


async def test_a_command_that_is_not_there_or_none_is_a_usage_error(world: World, tmp_path: Path) -> None:
    assert "there is no command 'no-such-command'" in (await world.extproc("run", "--", "no-such-command")).err
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    ended = await world.extproc("run", "--", str(tmp_path / "broken"))
    assert (ended.code, "cannot be started" in ended.err) == (2, True)
    assert (await world.extproc("run")).code == 2
    for path in (tmp_path / "plain", tmp_path):
        (tmp_path / "plain").touch()
        ended = await world.extproc("run", "--", str(path))
        assert (ended.code, ended.err) == (2, f"extproc: run: {str(path)!r} is not executable\n")


@pytest.mark.parametrize(
    "ca_pem", ["", "no certificate", "caf\xe9", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
)
async def test_an_authority_that_is_none_is_a_configuration_error(tmp_path: Path, ca_pem: str) -> None:
    async with telling("https://127.0.0.1:1", ca_pem) as gateway:
        ended = await SignedIn(tmp_path, gateway)("run", "--", "true")
        assert (ended.code, ended.err) == (2, "extproc: the gateway's profile: ca_pem holds no certificate (PEM)\n")


# --- signals, while the sign-in is refreshed -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("command", ["token", "url", "proxy"])
async def test_a_signal_between_the_issuers_answer_and_the_disk_loses_no_sign_in(
    tmp_path: Path, number: signal.Signals, command: str
) -> None:
    started: list[asyncio.subprocess.Process] = []
    facts: dict[str, Any] = {"issuer": "https://i", "audience": "a", "user": "alice", "groups": ()}
    new = mint(load_or_create(tmp_path / "key.pem"), **facts, now=0.0, lifetime_seconds=3600)

    async def issuer(request: web.Request) -> web.Response:
        if request.path != "/token":
            url = f"http://{request.host}"
            return web.json_response({"issuer": url, "token_endpoint": f"{url}/token"})
        # From here on the refresh token that is kept is good for nothing.
        started[0].send_signal(number)
        return web.json_response(
            {"access_token": new, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "new"}
        )

    async with answering(issuer) as url:
        profile = Profile(gateway="http://127.0.0.1:1", issuer=url, client_id="a", proxy="http://127.0.0.1:1")
        keeper = Keeper(tmp_path / ".config" / "copilot-extproc" / "sign-in.json", None)
        keeper.save(SignIn(profile, "alice", Secret(TOKEN), Secret("old"), 0.0, 1.0))
        extproc = SignedIn(tmp_path, "", token=None)
        arguments = ("token",) if command == "token" else ("run", "--mode", command, "--", "touch", str(tmp_path / "x"))
        started.append(await extproc.start(*arguments))
        async with asyncio.timeout(30):
            out, _ = await started[0].communicate()
    kept = keeper.load()
    assert kept is not None
    assert kept.refresh_token == Secret("new")
    # And it did what it does.
    assert started[0].returncode != 0
    assert (out, (tmp_path / "x").exists()) == (b"", False)


# --- Tokens ----------------------------------------------------------------------------------------------------------


async def test_many_tunnels_at_once_ask_for_one_token() -> None:
    asked = []
    gate = threading.Event()

    def current() -> str:
        asked.append(1)
        gate.wait(10)
        return "t"

    tokens = Tokens(current, lambda: 0.0)
    waiting = [asyncio.create_task(tokens.get()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    assert {token.reveal() for token in await asyncio.gather(*waiting)} == {"t"}
    assert len(asked) == 1


async def test_a_token_is_asked_for_again_when_some_seconds_have_passed() -> None:
    now, made = [0.0], iter("abc")
    tokens = Tokens(lambda: next(made), lambda: now[0])
    assert (await tokens.get()).reveal() == "a"
    now[0] = 29.9
    assert (await tokens.get()).reveal() == "a"
    now[0] = 30.0
    assert (await tokens.get()).reveal() == "b"


async def test_a_token_that_could_not_be_had_is_asked_for_again() -> None:
    answers = iter(["", "t"])

    def current() -> str:
        if answer := next(answers):
            return answer
        raise ExtprocError("the issuer does not answer")

    tokens = Tokens(current, lambda: 0.0)
    with pytest.raises(ExtprocError, match="does not answer"):
        await tokens.get()
    assert (await tokens.get()).reveal() == "t"
