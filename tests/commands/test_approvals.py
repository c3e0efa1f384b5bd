from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.approval.approval import Approval, Request, Scope, State
from extproc.approval.event import Event, Kind
from extproc.approval.touch import Act, Touch
from extproc.dev import files, keys
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import request, rule
from tests.commanding import Extproc, runner
from tests.issuing import dev_issuer

EDIT = {"path": "infra/prod.tf", "old_str": "count = 1", "new_str": "count = 3"}
PROPOSAL = json.dumps([{"name": "edit", "arguments": json.dumps(EDIT)}])


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "approvals")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the development issuer of a state directory; return the directory."""
    state = tmp_path_factory.mktemp("dev") / "state"
    with dev_issuer(state):
        yield state


class Gateway:
    """Stand for the process that serves: it requests approvals, and its lock says that it lives."""

    def __init__(self, state: Path) -> None:
        self._store = SqliteApprovals(state / "approvals.db", instance="gateway", now=time.time())

    def request(self, approval_id: str, **changes: Any) -> Request:
        now = time.time()
        facts = {"requested_at": now, "expires_at": now + 900, "proposal": PROPOSAL, **changes}
        one = request(approval_id, **facts)
        asyncio.run(self._store.request(one))
        return one

    def approval(self, approval_id: str) -> Approval:
        found = asyncio.run(self._store.get(approval_id))
        assert found is not None
        return found

    def events(self, approval_id: str) -> list[Event]:
        return asyncio.run(self._store.events(approval_id))

    def close(self) -> None:
        asyncio.run(self._store.aclose())


@pytest.fixture
def state(tmp_path: Path, issuer: Path) -> Path:
    """Make the default state directory one of the development gateway."""
    folder = tmp_path / ".extproc"
    folder.mkdir()
    for name in ("gateway.yaml", "policy.yaml", "ports.json", "github-token", keys.KEY_FILE):
        (folder / name).write_bytes((issuer / name).read_bytes())
    return folder


@pytest.fixture
def gateway(state: Path) -> Iterator[Gateway]:
    made = Gateway(state)
    yield made
    made.close()


def token(state: Path, user: str = "bob", groups: tuple[str, ...] = ("approvers",), **changes: Any) -> str:
    return keys.token_for(state, user, groups, **{"now": time.time(), **changes})


# --- list ------------------------------------------------------------------------------------------------------------


def test_approvals_are_listed_newest_first_and_filtered(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1")
    gateway.request("a2", principal="issuer#eve", name="eve", rule=rule(count=2, message="Ask us."))
    assert extproc("deny", "a1", "--reason", "no", "--as", "bob").code == 0
    run = extproc("list", "--json")
    assert (run.code, run.err) == (0, "")
    assert [(row["id"], row["state"], row["user"]) for row in run.rows] == [
        ("a2", "pending", "eve"),
        ("a1", "denied", "alice"),
    ]
    newest = run.rows[0]
    assert 890 < newest["seconds_left"] <= 900
    assert newest["touches"] == [
        {"act": "edit", "tool": "edit", "path": "infra/prod.tf", "repository": None, "branch": None}
    ]
    assert (newest["rule"], newest["message"], newest["count"], newest["approvers"]) == (
        "privileged",
        "Ask us.",
        2,
        ["approvers"],
    )
    assert run.rows[1]["verdicts"][0]["reason"] == "no"
    assert run.rows[1]["seconds_left"] is None
    assert [row["id"] for row in extproc("list", "--json", "--state", "pending").rows] == ["a2"]
    assert [row["id"] for row in extproc("list", "--json", "--user", "alice").rows] == ["a1"]
    assert [row["id"] for row in extproc("list", "--json", "--limit", "1").rows] == ["a2"]
    assert extproc("list", "--state", "maybe").code == 2


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_table_shows_what_matters_and_steers_no_terminal(
    extproc: Extproc, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    gateway.request("0123456789abcdef0123456789abcdef", name="al\x1b[31mice\u202e", touches=(Touch(Act.SHELL, "bash"),))
    run = extproc("list")
    assert run.code == 0
    for text in ("0123456789abcdef0123456789abcdef", "pending", "14:5", "shell anything"):
        assert text in run.out
    assert "\x1b" not in run.out
    assert "\u202e" not in run.out
    assert max(len(line.rstrip()) for line in run.out.splitlines()) <= int(columns)


def test_without_a_store_the_commands_say_so(extproc: Extproc, state: Path) -> None:
    for arguments in (["list"], ["show", "a1"], ["approve", "a1", "--as", "bob"]):
        run = extproc(*arguments)
        assert (run.code, run.out) == (1, "")
        assert "there is no store at .extproc/approvals.db" in run.err
    assert not (state / "approvals.db").exists()


def test_what_a_dead_gateway_left_pending_is_listed_as_interrupted(extproc: Extproc, state: Path) -> None:
    dead = Gateway(state)
    dead.request("a1")
    dead.close()
    assert [row["state"] for row in extproc("list", "--json").rows] == ["interrupted"]
    assert extproc("approve", "a1", "--as", "bob").code == 1


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_prints_who_asks_for_what_and_records_that_somebody_looked(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1", rule=rule(message="Infrastructure needs a second pair of eyes."))
    run = extproc("show", "a1")
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    for text in (
        "issuer#alice",
        "Infrastructure needs a second pair",
        "left",
        "edit infra/prod.tf (edit)",
        "192.0.2.1",
    ):
        assert text in run.out
    at = lines.index("--- a/infra/prod.tf")
    assert lines[at:] == [
        "--- a/infra/prod.tf",
        "+++ b/infra/prod.tf",
        "@@ -1 +1 @@",
        "-count = 1",
        "+count = 3",
    ]
    requested, viewed = gateway.events("a1")
    assert requested.kind is Kind.REQUESTED
    assert viewed.kind is Kind.VIEWED
    assert (viewed.who or "").startswith("local-administrator:")
    assert "command line of " in (viewed.address or "")
    assert abs(viewed.at - time.time()) < 60
    assert "viewed by" in run.out


def test_show_as_json_has_the_proposal_and_the_whole_history(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1")
    extproc("approve", "a1", "--as", "bob", "--reason", "looks fine")
    (row,) = extproc("show", "a1", "--json").rows
    assert (row["id"], row["state"], row["proposal"]) == ("a1", "approved", PROPOSAL)
    assert [(event["kind"], event["state"]) for event in row["events"]] == [
        ("requested", "pending"),
        ("verdict", "approved"),
        ("viewed", "approved"),
    ]
    assert row["events"][1]["verdict"]["reason"] == "looks fine"
    text = extproc("show", "a1").out
    assert "approved for once by bob from command line of" in text
    assert "looks fine" in text


def test_nothing_that_is_shown_steers_the_terminal_or_writes_lines_of_its_own(
    extproc: Extproc, gateway: Gateway
) -> None:
    evil = "\x1b[2J\x07\u202e"
    edit = {"path": f"x{evil}", "old_str": f"a{evil}", "new_str": f"b{evil}\r"}
    gateway.request(
        "a1",
        name=f"al{evil}ice\napproved             by the boss",
        touches=(Touch(Act.EDIT, f"edit{evil}\nstate      approved", f"x{evil}"),),
        proposal=json.dumps({"name": f"edit{evil}", "arguments": edit}),
    )
    run = extproc("show", "a1")
    assert run.code == 0
    assert not set(run.out) & set(f"{evil}\r".replace("[2J", ""))
    assert not any(line.startswith(("approved", "state      approved")) for line in run.out.splitlines())
    assert "-a[2J" in run.out


def test_showing_what_is_unknown_fails_with_1(extproc: Extproc, gateway: Gateway) -> None:
    run = extproc("show", "nothing")
    assert (run.code, run.out) == (1, "")
    assert "No approval has this id" in run.err
    assert gateway.events("nothing") == []


# --- approve and deny ------------------------------------------------------------------------------------------------


def test_an_approver_of_the_demo_approves(extproc: Extproc, gateway: Gateway, state: Path) -> None:
    gateway.request("a1")
    run = extproc("approve", "a1", "--as", "bob", "--reason", "looks fine")
    assert (run.code, run.out, run.err) == (0, "a1 approved\n", "")
    approval = gateway.approval("a1")
    assert approval.state is State.APPROVED
    (only,) = approval.verdicts
    url = files.ports_of(state).issuer_url
    assert (only.approver, only.name, only.reason, only.scope) == (f"{url}#bob", "bob", "looks fine", Scope.ONCE)
    assert only.address == f"command line of {socket.gethostname()}"
    assert abs(only.at - time.time()) < 60


def test_a_denial_has_a_reason(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1")
    for arguments in (["--as", "bob"], ["--as", "bob", "--reason", " "]):
        assert extproc("deny", "a1", *arguments).code == 2
    assert gateway.approval("a1").state is State.PENDING
    run = extproc("deny", "a1", "--as", "bob", "--reason", "not on Fridays")
    assert (run.code, run.out) == (0, "a1 denied\n")
    assert [one.reason for one in gateway.approval("a1").verdicts] == ["not on Fridays"]


def test_a_token_of_a_trusted_issuer_acts_from_the_option_or_the_environment(
    extproc: Extproc, gateway: Gateway, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.request("a1", rule=rule(count=2))
    run = extproc("approve", "a1", "--token", token(state, "erin"))
    assert (run.code, run.out) == (0, "a1 pending (1 of 2 approvals)\n")
    monkeypatch.setenv("EXTPROC_TOKEN", token(state, "frank"))
    run = extproc("approve", "a1")
    assert (run.code, run.out) == (0, "a1 approved\n")
    assert [one.name for one in gateway.approval("a1").verdicts] == ["erin", "frank"]


def test_the_settings_file_says_which_issuers_count(extproc: Extproc, gateway: Gateway, state: Path) -> None:
    gateway.request("a1")
    elsewhere = state.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "policy.yaml").write_bytes((state / "policy.yaml").read_bytes())
    settings = (state / "gateway.yaml").read_text()
    stranger = settings.replace(files.ports_of(state).issuer_url, "http://127.0.0.1:1")
    (elsewhere / "gateway.yaml").write_text(stranger)
    (state / "gateway.yaml").rename(elsewhere / "good.yaml")
    given = token(state)
    assert extproc("approve", "a1", "--token", given).code == 2
    run = extproc("approve", "a1", "--token", given, "--config", str(elsewhere / "gateway.yaml"))
    assert run.code == 1
    assert "identity.issuer" in run.err
    assert gateway.approval("a1").state is State.PENDING
    assert extproc("approve", "a1", "--token", given, "--config", str(elsewhere / "good.yaml")).code == 0


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda state: token(state, now=time.time() - 7200), "identity.expired"),
        (lambda state: token(state)[:-8] + "AAAAAAAA", "identity.signature"),
        (lambda _state: "gho_1234567890", "identity.malformed"),
        (lambda state: keys.mint(keys.load_or_create(state / keys.KEY_FILE), **FOREIGN), "identity.issuer"),
    ],
    ids=["expired", "forged", "of GitHub", "of a stranger"],
)
def test_a_token_that_does_not_hold_is_refused_with_1_and_never_shown(
    extproc: Extproc, gateway: Gateway, state: Path, make: Callable[[Path], str], code: str
) -> None:
    gateway.request("a1")
    given = make(state)
    run = extproc("approve", "a1", "--token", given)
    assert (run.code, run.out) == (1, "")
    assert code in run.err
    assert given not in run.err
    assert len(gateway.events("a1")) == 1


FOREIGN: dict[str, Any] = {
    "issuer": "http://127.0.0.1:1",
    "audience": files.AUDIENCE,
    "user": "bob",
    "groups": ["approvers"],
    "now": time.time(),
}


@pytest.mark.parametrize("command", [["approve"], ["deny", "--reason", "no"]])
@pytest.mark.parametrize(
    ("user", "changes", "why"),
    [
        ("mallory", {}, "not_approver"),
        ("carol", {}, "not_approver"),
        ("bob", {"expires_at": 1.0}, "ended"),
        ("bob", {"id": "other"}, "unknown"),
    ],
)
def test_a_verdict_that_is_not_accepted_is_told_with_1_and_why(
    extproc: Extproc, gateway: Gateway, command: list[str], user: str, changes: dict[str, Any], why: str
) -> None:
    changes = dict(changes)
    gateway.request(changes.pop("id", "a1"), **changes)
    run = extproc(*command, "a1", "--as", user)
    assert (run.code, run.out) == (1, "")
    assert f"extproc: {why}: " in run.err


def test_who_asked_may_not_approve(extproc: Extproc, gateway: Gateway, state: Path) -> None:
    gateway.request("a1", principal=f"{files.ports_of(state).issuer_url}#bob", name="bob")
    run = extproc("approve", "a1", "--as", "bob")
    assert run.code == 1
    assert "own_request" in run.err


def test_what_was_decided_is_not_decided_again(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1")
    assert extproc("deny", "a1", "--as", "bob", "--reason", "no").code == 0
    run = extproc("approve", "a1", "--as", "bob")
    assert run.code == 1
    assert "a1 is denied already" in run.err
    assert gateway.approval("a1").state is State.DENIED


def test_only_scopes_of_the_rule_can_be_given(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1", rule=rule(scopes=(Scope.ONCE, Scope.SESSION)))
    run = extproc("approve", "a1", "--as", "bob", "--scope", "window")
    assert run.code == 1
    assert "a1 can be approved for once or session only" in run.err
    assert extproc("approve", "a1", "--as", "bob", "--scope", "for ever").code == 2
    assert extproc("approve", "a1", "--as", "bob", "--scope", "session").code == 0
    assert [one.scope for one in gateway.approval("a1").verdicts] == [Scope.SESSION]


# --- who acts --------------------------------------------------------------------------------------------------------


def test_nobody_acts_without_an_identity(extproc: Extproc, gateway: Gateway) -> None:
    gateway.request("a1")
    run = extproc("approve", "a1")
    assert (run.code, run.out) == (2, "")
    assert "who acts?" in run.err


def test_demo_users_act_only_where_the_key_of_the_dev_issuer_is(
    extproc: Extproc, gateway: Gateway, state: Path
) -> None:
    gateway.request("a1")
    assert extproc("approve", "a1", "--as", "nobody").code == 2
    (state / keys.KEY_FILE).unlink()
    run = extproc("approve", "a1", "--as", "bob")
    assert (run.code, run.out) == (2, "")
    assert "no key of a development issuer" in run.err
    assert not (state / keys.KEY_FILE).exists()


def test_the_key_of_an_issuer_that_the_gateway_does_not_trust_makes_no_approver(
    extproc: Extproc, gateway: Gateway, state: Path
) -> None:
    gateway.request("a1")
    (state / keys.KEY_FILE).unlink()
    keys.load_or_create(state / keys.KEY_FILE)
    run = extproc("approve", "a1", "--as", "bob")
    assert (run.code, run.out) == (1, "")
    assert "identity." in run.err
    assert gateway.approval("a1").state is State.PENDING
