"""Commands with `--server` say what they say of the local store, as far as the one who asks may see it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.approval.approval import Request, State
from extproc.dev import files
from extproc.recording import receipt as receipts
from extproc.secret import Secret
from extproc.signin.kept import SignIn, keeper_of
from extproc.signin.profile import Profile
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import request, rule
from tests.commanding import Extproc, Run, runner
from tests.console.api.serving import CODE, SECRET, accesses, prepared, record, serving, token
from tests.evidence import SIGNER
from tests.issuing import dev_issuer
from tests.recording_of import exchange
from tests.recording_of import record as put


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("dev") / "state"
    with dev_issuer(state):
        yield state


@pytest.fixture
def state(tmp_path: Path, issuer: Path) -> Path:
    """Return the state directory of the gateway, to which the console belongs."""
    folder = prepared(issuer, tmp_path / "gateway")
    record(folder)
    return folder


@pytest.fixture
def console(tmp_path: Path, issuer: Path, state: Path) -> Iterator[str]:
    """Serve the console; yield its address. The local state directory has the issuer's key and no record."""
    prepared(issuer, tmp_path / ".extproc")
    with serving(state) as url:
        yield url


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    monkeypatch.delenv("EXTPROC_SERVER", raising=False)
    return runner(monkeypatch, capsys, tmp_path)


class Waiting:
    """The gateway's side of approvals."""

    def __init__(self, state: Path) -> None:
        self._store = SqliteApprovals(state / "approvals.db", instance="gateway", now=time.time())

    def ask(self, approval_id: str, **changes: Any) -> Request:
        now = time.time()
        one = request(approval_id, **{"requested_at": now, "expires_at": now + 900, **changes})
        asyncio.run(self._store.request(one))
        return one

    def state_of(self, approval_id: str) -> State:
        found = asyncio.run(self._store.get(approval_id))
        assert found is not None
        return found.state

    def close(self) -> None:
        asyncio.run(self._store.aclose())


@pytest.fixture
def waiting(state: Path) -> Iterator[Waiting]:
    made = Waiting(state)
    yield made
    made.close()


def same(local: Run, remote: Run) -> None:
    assert (remote.code, remote.err) == (0, "")
    if local.out.startswith("{"):
        # As values: the store may write a whole number without its point.
        assert (local.code, local.rows) == (remote.code, remote.rows)
    else:
        assert (local.code, local.out) == (remote.code, remote.out)


# --- The record ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [(), ("--json",)])
@pytest.mark.parametrize(
    "command",
    [
        ("sessions", "list"),
        ("sessions", "list", "--user", "bob", "--since", "1h", "--until", "1m", "--text", "say", "--limit", "1"),
        ("sessions", "list", "--since", "999999w", "--outcome", "completed", "--repository", "acme/*"),
        ("sessions", "show", "s1"),
        ("sessions", "show", "x3"),
        ("replay", "s1", "--no-wait"),
        ("replay", "--no-wait"),
        ("findings", "list"),
        ("findings", "list", "--rule", "npm-*", "--user", "alice", "--direction", "prompt", "--action", "mask"),
    ],
)
def test_an_auditor_is_shown_what_the_local_store_shows(
    extproc: Extproc, state: Path, console: str, command: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    local = extproc(*command, *shown, "--state-dir", str(state))
    assert local.out
    same(local, extproc(*command, *shown, "--server", console, "--as", "carol"))


def test_others_are_shown_their_own(extproc: Extproc, state: Path, console: str) -> None:
    own = extproc("sessions", "list", "--user", "alice", "--state-dir", str(state))
    same(own, extproc("sessions", "list", "--server", console, "--as", "alice"))
    unknown = extproc("sessions", "show", "nope", "--server", console, "--as", "alice")
    foreign = extproc("sessions", "show", "s3", "--server", console, "--as", "alice")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "extproc: no session or exchange has the id 'nope'\n"
    assert (foreign.code, foreign.err) == (1, unknown.err.replace("nope", "s3"))
    denied = extproc("sessions", "list", "--server", console, "--as", "mallory")
    assert (denied.code, denied.out) == (1, "")
    assert denied.err == "extproc: role: This is for the role auditor or developer.\n"


def test_reading_is_recorded_there_and_not_here(extproc: Extproc, state: Path, console: str, tmp_path: Path) -> None:
    assert extproc("replay", "s1", "--no-wait", "--server", console, "--as", "alice").code == 0
    assert [(one.facts["action"], one.facts["name"]) for one in accesses(state)] == [("replay", "alice")]
    assert not (tmp_path / ".extproc" / "spool").exists()
    (state / "spool").rename(state / "away")
    (state / "spool").write_text("no folder")
    run = extproc("sessions", "show", "s2", "--server", console, "--as", "alice")
    assert (run.code, run.out) == (1, "")
    assert "store: The store cannot be used" in run.err


def test_long_lists_and_sessions_are_asked_for_page_by_page(extproc: Extproc, state: Path, console: str) -> None:
    now = time.time()
    many = [exchange(f"y{at:04}", session=f"t{at:04}", at=now - 300 + at / 10) for at in range(600)]
    long = [exchange(f"z{at:04}", session="long", at=now - 200 + at / 10) for at in range(120)]
    asyncio.run(put(state / "record.db", [*many, *long], log="test.0.3"))
    told = ("--server", console, "--as", "carol", "--json")
    assert len(extproc("sessions", "list", *told, "--limit", "1000").rows) == 605
    run = extproc("sessions", "list", *told, "--limit", "510")
    assert [row["id"] for row in run.rows][:2] == ["long", "t0599"]
    assert len(run.rows) == len({row["id"] for row in run.rows}) == 510
    shown = extproc("sessions", "show", "long", *told)
    assert [row["id"] for row in shown.rows] == [f"z{at:04}" for at in range(120)]
    assert [head.facts["exchanges"] for head in accesses(state)] == [50, 50, 20]


def test_a_secret_is_looked_for_and_never_told(extproc: Extproc, state: Path, console: str) -> None:
    told = ("findings", "match", "--server", console)
    run = extproc(*told, "--as", "carol", "--json", stdin=SECRET.encode())
    assert (run.code, [row["exchange"] for row in run.rows]) == (0, ["x3", "x1"])
    same(
        extproc("findings", "match", "--state-dir", str(state), stdin=SECRET.encode()),
        extproc(*told, "--as", "carol", stdin=SECRET.encode()),
    )
    assert [row["exchange"] for row in extproc(*told, "--as", "bob", "--json", stdin=SECRET.encode()).rows] == ["x3"]
    unseen = extproc(*told, "--as", "bob", stdin=b"something else")
    assert (unseen.code, unseen.out) == (1, "not seen\n")
    for user, secret in (("mallory", SECRET.encode()), ("carol", b"\xff\xfe-latin")):
        failed = extproc(*told, "--as", user, stdin=secret)
        # 1 would say that it was never seen.
        assert (failed.code, failed.out) == (2, "")
        assert "latin" not in failed.err


def test_lines_are_traced_there(extproc: Extproc, state: Path, console: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    told = ("--server", console)
    for shown in ((), ("--json",)):
        local = extproc("trace", "a.py:1-3", *shown, "--state-dir", str(state))
        same(local, extproc("trace", "a.py:1-3", *shown, *told, "--as", "alice"))
    none = extproc("trace", "a.py", *told, "--as", "bob")
    assert (none.code, none.out) == (1, "none of 6 lines is known to have been proposed\n")
    assert extproc("trace", "a.py", *told, "--as", "dave").code == 2
    (tmp_path / "big.txt").write_text("a line of some length\n" * 400_000)
    big = extproc("trace", "big.txt", *told, "--as", "alice")
    assert (big.code, big.out) == (2, "")
    assert "a console takes at most 8 MiB" in big.err


def test_a_receipt_is_fetched_and_checked_with_ones_own_key(extproc: Extproc, console: str, tmp_path: Path) -> None:
    told = ("--server", console, "--as", "alice")
    run = extproc("receipt", "x1", *told, "--out", "r.json")
    assert (run.code, run.out) == (0, "")
    assert receipts.check((tmp_path / "r.json").read_bytes(), [SIGNER.public]).head.id == "x1"
    (tmp_path / "own.pub").write_text(f"{SIGNER.vkey}\n")
    run = extproc("receipt", "x1", "--with-body", *told, "--public-key", "own.pub")
    assert (run.code, json.loads(run.out)["exchange"]) == (0, "x1")
    other = SIGNER.vkey.replace("gateway.example", "other.example")
    (tmp_path / "other.pub").write_text(f"{other}\n")
    run = extproc("receipt", "x1", *told, "--public-key", "other.pub")
    assert run.code != 0
    assert run.out == ""
    assert extproc("receipt", "x3", *told).err == "extproc: unknown: no exchange has the id 'x3'\n"
    assert extproc("receipt", "--check", "r.json", "--public-key", "own.pub", *told).code == 0


# --- Approvals -------------------------------------------------------------------------------------------------------


def test_approvals_are_listed_and_shown_as_from_the_local_store(
    extproc: Extproc, state: Path, console: str, waiting: Waiting
) -> None:
    edit = {"name": "edit", "arguments": {"path": "infra/prod.tf", "old_str": "count = 1", "new_str": "count = 3"}}
    waiting.ask("a1", rule=rule(message="Ask us."), proposal=json.dumps([edit]))
    waiting.ask("a2", rule=rule(approvers=frozenset({"admins"})), expires_at=1.0)
    local, told = ("--state-dir", str(state)), ("--server", console, "--as", "carol")
    for command in (("approvals", "list"), ("approvals", "list", "--state", "pending", "--user", "alice")):
        # What is left changes while one asks.
        here, there = (re.sub(r"1[45]:\d\d", "", extproc(*command, *where).out) for where in (local, told))
        assert here == there
    assert extproc("approvals", "list", *told, "--limit", "1000", "--json").rows[0]["id"] == "a2"
    (row,) = extproc("approvals", "list", "--server", console, "--as", "bob", "--json").rows
    assert row["id"] == "a1"
    shown = extproc("approvals", "show", "a1", *told)
    assert shown.code == 0
    for text in (
        "Ask us.",
        "left",
        "--- a/infra/prod.tf",
        "viewed by carol from 127.0.0.1",
        "requested by         alice",
    ):
        assert text in shown.out
    (row,) = extproc("approvals", "show", "a1", *told, "--json").rows
    assert [one["kind"] for one in row["events"]] == ["requested", "viewed", "viewed"]
    unknown = extproc("approvals", "show", "a9", *told)
    assert (unknown.code, unknown.err) == (1, "extproc: unknown: No approval has this id.\n")


def test_an_approver_answers(extproc: Extproc, console: str, waiting: Waiting) -> None:
    for name in ("a1", "a2"):
        waiting.ask(name)
    told = ("--server", console, "--as", "bob")
    run = extproc("approvals", "approve", "a1", *told, "--reason", "fine")
    assert (run.code, run.out, run.err) == (0, "a1 approved\n", "")
    assert waiting.state_of("a1") is State.APPROVED
    assert extproc("approvals", "deny", "a2", *told, "--reason", " ").code == 2
    run = extproc("approvals", "deny", "a2", *told, "--reason", "no")
    assert (run.code, run.out) == (0, "a2 denied\n")
    again = extproc("approvals", "approve", "a2", *told)
    assert (again.code, again.err) == (1, "extproc: ended: a2 is denied already.\n")


def test_who_may_not_answer_is_told_so(extproc: Extproc, console: str, waiting: Waiting) -> None:
    waiting.ask("a1")
    for user, code in (("alice", "role"), ("carol", "role"), ("mallory", "role")):
        run = extproc("approvals", "approve", "a1", "--server", console, "--as", user)
        assert (run.code, run.out) == (1, "")
        assert f"extproc: {code}: " in run.err
    assert waiting.state_of("a1") is State.PENDING


# --- Who asks whom ---------------------------------------------------------------------------------------------------


def test_the_server_and_the_token_may_stand_in_the_environment(
    extproc: Extproc, state: Path, console: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTPROC_SERVER", console)
    monkeypatch.setenv("EXTPROC_TOKEN", token(state, "alice"))
    # Nobody in between is asked for the way.
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert [row["id"] for row in extproc("sessions", "list", "--json").rows] == ["s2", "s1"]
    # A demo user who is named goes before the token.
    assert [row["id"] for row in extproc("sessions", "list", "--json", "--as", "bob").rows] == ["s4", "s3"]


def signed_in(folder: Path, state: Path, console: str | None) -> None:
    profile = Profile(
        gateway="http://127.0.0.1:8080", issuer=files.ports_of(state).issuer_url, client_id="cli", console=console
    )
    keeper = keeper_of({"XDG_CONFIG_HOME": str(folder / "config")})
    now = time.time()
    keeper.save(SignIn(profile, "alice", Secret(token(state, "alice")), None, now, now + 3600))


def test_whoever_is_signed_in_asks_the_console_of_their_gateway(
    extproc: Extproc, state: Path, console: str, tmp_path: Path
) -> None:
    assert extproc("sessions", "list", "--server", console).err.startswith("extproc: who asks? Run `extproc login`")
    signed_in(tmp_path, state, console)
    run = extproc("sessions", "list", "--json", "--server", f"{console}/")
    assert (run.code, [row["id"] for row in run.rows]) == (0, ["s2", "s1"])


def test_a_sign_in_is_drawn_to_no_other_console(
    extproc: Extproc, state: Path, console: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTPROC_SERVER", console)
    signed_in(tmp_path, state, "https://console.example")
    run = extproc("sessions", "list")
    assert (run.code, run.out) == (2, "")
    assert "the sign-in is for the console https://console.example" in run.err
    signed_in(tmp_path, state, None)
    run = extproc("approvals", "approve", "a1")
    assert (run.code, run.out) == (2, "")
    assert "the sign-in names no console" in run.err
    # A token that is given goes where it is sent.
    assert extproc("sessions", "list", "--token", token(state, "alice")).code == 0


@pytest.mark.parametrize("command", [("sessions", "list"), ("approvals", "list"), ("findings", "list"), ("replay",)])
def test_nobody_reads_the_local_store_as_somebody_else(extproc: Extproc, state: Path, command: tuple[str, ...]) -> None:
    run = extproc(*command, "--as", "alice", "--state-dir", str(state))
    assert (run.code, run.out) == (2, "")
    assert "--as: expected --server with it" in run.err


def test_demo_users_ask_this_machine_only(extproc: Extproc, console: str) -> None:
    run = extproc("sessions", "list", "--server", "https://console.example", "--as", "alice")
    assert (run.code, run.out) == (2, "")
    assert "--as: demo users are those of a development gateway on this machine" in run.err
    assert extproc("sessions", "list", "--server", console, "--as", "nobody").code == 2


@pytest.mark.parametrize("server", ["", "http://console.example", "ftp://x", "https://user:word@x", "https://x/?q"])
def test_an_address_that_no_token_may_be_sent_to_is_refused(extproc: Extproc, server: str) -> None:
    run = extproc("sessions", "list", "--server", server, "--token", "t.o.k")
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("extproc: --server: the console's address ")
    assert "word" not in run.err


def test_a_token_that_does_not_hold_is_refused_and_never_shown(extproc: Extproc, state: Path, console: str) -> None:
    given = token(state, "alice", now=time.time() - 7200)
    run = extproc("sessions", "list", "--server", console, "--token", given)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("extproc: identity.expired: ")
    assert given not in run.err
    assert extproc("sessions", "list", "--server", console, "--token", "a\nb").code == 2


def test_a_console_that_is_not_there_is_told_with_2(extproc: Extproc) -> None:
    run = extproc("sessions", "list", "--server", "http://127.0.0.1:1", "--token", "t.o.k")
    assert (run.code, run.out) == (2, "")
    assert run.err == "extproc: http://127.0.0.1:1: the console does not answer (ClientConnectorError)\n"


@pytest.mark.parametrize(
    "command",
    [
        *(("sessions", "list"), ("sessions", "show"), ("replay",), ("findings", "list"), ("findings", "match")),
        *(("trace",), ("approvals", "list"), ("approvals", "show"), ("approvals", "approve"), ("approvals", "deny")),
        ("receipt",),
    ],
)
def test_every_command_that_reads_or_acts_can_be_told_a_server(extproc: Extproc, command: tuple[str, ...]) -> None:
    run = extproc(*command, "--help")
    for text in ("--server", "EXTPROC_SERVER", "--as", "--token"):
        assert text in run.out
