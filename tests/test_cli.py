from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path

import jwt
import pytest

from extproc.dev import files, keys
from tests.commanding import Extproc, runner
from tests.recording_of import record

NOW = 1_760_000_000.0
ROOT = Path(__file__).parent.parent
DEV_POLICY = str(ROOT / "extproc" / "dev" / "policy.yaml")


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a store with two sessions: alice's two exchanges, and then one of mallory's."""
    opening = {
        "v": 1,
        "client": {"user_agent": "cli/1"},
        "principal": {"id": "issuer#alice", "name": "alice"},
        "decision": {"rule": "developers"},
        "request": {
            "method": "POST",
            "path": "/chat/completions",
            "model": "gpt-5",
            "messages": [{"role": "user", "content": "say hello"}],
        },
    }
    closing = {
        "v": 1,
        "outcome": "completed",
        "error": None,
        "response": {"status": 200, "text": "Hello"},
        "timing": {"pieces": [(250.0, "0.text", 2), (500.0, "0.text", 3)], "closed": 600.0},
    }

    exchanges = []
    for number, (session, name) in enumerate([("s1", "alice"), ("s1", "alice"), ("s2", "mallory")]):
        common = {"id": f"x{number}", "session": session, "opened_at": NOW + number}
        who = {"id": f"issuer#{name}", "name": name}
        exchanges.append(({**opening, **common, "principal": who}, {**closing, **common, "closed_at": NOW + number}))
    asyncio.run(record(tmp_path / ".extproc" / "record.db", exchanges))
    return tmp_path / ".extproc"


# --- policy ----------------------------------------------------------------------------------------------------------


def test_a_good_policy_is_checked_with_0(extproc: Extproc) -> None:
    run = extproc("policy", "check", DEV_POLICY)
    assert (run.code, run.err) == (0, "")
    assert "4 rules, default deny; 2 protections; rule sets for masking: 1 (secrets)" in run.out


def test_a_check_names_the_rule_sets_that_are_in_use(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("rules: [{id: acme-key, name: acme, pattern: '\\b(acme_[a-z0-9]{20})\\b'}]\n")
    sets = "masking: {secrets: {prompts: off, answers: off}"
    (tmp_path / "p.yaml").write_text(
        f"version: 1\n{sets}, rule-files: [{{name: acme, file: acme.yaml}}]}}\nrules: []\n"
    )
    assert "rule sets for masking: 1 (acme)" in extproc("policy", "check", "p.yaml").out
    (tmp_path / "p.yaml").write_text(f"version: 1\n{sets}}}\nrules: []\n")
    assert "rule sets for masking: 0, so nothing is masked" in extproc("policy", "check", "p.yaml").out


def test_a_check_in_json_has_the_digest_that_records_carry(extproc: Extproc) -> None:
    (row,) = extproc("policy", "check", DEV_POLICY, "--json").rows
    digest = hashlib.sha256(Path(DEV_POLICY).read_bytes()).hexdigest()
    counts = {"rules": 4, "protections": 2, "rule_sets": ["secrets"]}
    assert row == {"file": DEV_POLICY, **counts, "digest": digest, "warnings": []}


def test_a_bad_policy_is_told_line_by_line_with_2(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\nrules:\n  - id: a\n    effect: maybe\n  - effect: allow\n")
    run = extproc("policy", "check", "p.yaml")
    assert (run.code, run.out) == (2, "")
    assert "p.yaml:4: rules[0].effect: expected" in run.err
    assert "p.yaml:5: rules[1].id: required" in run.err


def test_a_missing_policy_is_told_with_2(extproc: Extproc) -> None:
    run = extproc("policy", "check", "none.yaml")
    assert run.code == 2
    assert run.err == "extproc: none.yaml: cannot be read: No such file or directory\n"


def test_the_schema_is_json_and_the_one_in_the_docs(extproc: Extproc) -> None:
    run = extproc("policy", "schema")
    assert run.code == 0
    assert json.loads(run.out) == json.loads((ROOT / "docs" / "policy.schema.json").read_text())


def test_a_decision_is_explained(extproc: Extproc) -> None:
    run = extproc("policy", "explain", "--as", "alice", "--groups", "developers", "--file", DEV_POLICY)
    assert run.code == 0
    assert "match  developers-models: allow: groups, endpoints" in run.out
    assert "allow by rule developers-models" in run.out
    run = extproc("policy", "explain", "--as", "mallory", "--file", DEV_POLICY, "--json")
    (row,) = run.rows
    assert (row["effect"], row["rule_id"]) == ("deny", "default")
    assert [trial["rule_id"] for trial in row["trials"]] == [
        "developers-models",
        "developers-github",
        "developers-github-held",
        "developers-metadata",
        "default",
    ]


EXACT = """\
version: 1
rules:
  - id: exact
    effect: deny
    when:
      models: [gpt-5]
      kinds: [workload]
      issuers: ['https://i']
      repositories: [acme/app]
      hosts: [h]
      methods: [GET]
      endpoints: [metadata]
      upstreams: [github-api]
      paths: [/a]
      claims: { ref: [main] }
"""


def test_an_explanation_takes_every_fact(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / ".extproc").mkdir()
    (tmp_path / ".extproc" / "policy.yaml").write_text(EXACT)
    facts = "--model gpt-5 --kind workload --issuer https://i --repository acme/app --host h --method GET"
    facts += " --endpoint metadata --upstream github-api --path /a --claim ref=main"
    run = extproc("policy", "explain", "--as", "ci", *facts.split(), "--json")
    assert run.err == ""
    assert run.rows[0]["rule_id"] == "exact"


AS_ALICE = ("--as", "alice", "--groups", "developers", "--file", DEV_POLICY)


def test_what_a_tool_would_do_to_a_file_is_explained(extproc: Extproc) -> None:
    run = extproc("policy", "explain", "--path", "infra/prod.tf", "--tool", "edit", *AS_ALICE)
    assert run.code == 0
    said = "Changes to infrastructure and workflows need a second pair of eyes."
    assert run.out.splitlines() == [
        "  -    merges-and-pushes: acts: edit, wanted merge, push, dispatch",
        "match  privileged-files: require-approval: files",
        f"require-approval by rule privileged-files: {said}",
        "approvers: approvers; wanted: 1; within 15 min; scopes: once, session, window",
    ]


def test_an_explanation_of_a_touch_in_json_has_the_touch_and_the_approval(extproc: Extproc) -> None:
    touched = "--act push --path infra/prod.tf --branch main --repository acme/app --tool push_files"
    (row,) = extproc("policy", "explain", *touched.split(), *AS_ALICE, "--json").rows
    assert (row["effect"], row["rule_id"]) == ("require-approval", "merges-and-pushes")
    assert row["touch"] == {
        "act": "push",
        "tool": "push_files",
        "path": "infra/prod.tf",
        "repository": "acme/app",
        "branch": "main",
    }
    assert (row["approval"]["approvers"], row["approval"]["scopes"]) == (["approvers"], ["once"])
    assert row["trials"] == [{"rule_id": "merges-and-pushes", "matched": True, "why": "require-approval: acts"}]


@pytest.mark.parametrize(
    ("touched", "rule", "effect", "act"),
    [
        ("--tool edit --path src/a.py", "default", "allow", "edit"),
        ("--tool edit", "privileged-files", "require-approval", "edit"),
        ("--tool bash --path a/main.tf", "privileged-files", "require-approval", "shell"),
        ("--tool apply_patch --path a/main.tf", "privileged-files", "require-approval", "edit"),
        ("--tool merge_pull_request", "merges-and-pushes", "require-approval", "merge"),
        ("--act dispatch", "merges-and-pushes", "require-approval", "dispatch"),
        ("--tool bash --act merge", "merges-and-pushes", "require-approval", "merge"),
    ],
)
def test_the_act_of_a_tool_is_known_by_its_name(
    extproc: Extproc, touched: str, rule: str, effect: str, act: str
) -> None:
    (row,) = extproc("policy", "explain", *touched.split(), *AS_ALICE, "--json").rows
    assert (row["rule_id"], row["effect"], row["touch"]["act"]) == (rule, effect, act)
    assert row["trials"][-1]["rule_id"] == rule


def test_a_tool_that_only_reads_is_told_as_such(extproc: Extproc) -> None:
    (row,) = extproc("policy", "explain", "--tool", "view", "--path", "infra/a.tf", *AS_ALICE, "--json").rows
    assert (row["effect"], row["reason"], row["touch"]) == ("allow", "The tool only reads.", None)
    assert "The tool only reads." in extproc("policy", "explain", "--tool", "view", *AS_ALICE).out


def test_a_denial_of_a_touch_is_explained(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "version: 1\nrules:\n  - {id: never, effect: deny, reason: '[Never].', when: {branches: [main]}}\n"
    )
    run = extproc("policy", "explain", "--as", "a", "--act", "push", "--branch", "main", "--file", "p.yaml")
    assert run.out == "match  never: deny: branches\ndeny by rule never: [Never].\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as", "a", "--branch", "main"], "--branch: expected --tool or --act with it"),
        (["--as", "a", "--act", "write"], "--act"),
        (["--as", "a", "--kind", "robot"], "--kind: expected person or workload"),
        (["--as", "a", "--claim", "ref"], "--claim: expected NAME=VALUE"),
        (["--as", "a", "--endpoint", "x"], "--endpoint"),
        ([], "--as"),
    ],
)
def test_a_wrong_option_is_told_with_2(extproc: Extproc, arguments: list[str], said: str) -> None:
    run = extproc("policy", "explain", "--file", DEV_POLICY, *arguments)
    assert run.code == 2
    assert said in run.err


# --- records ---------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_newest_first(extproc: Extproc, state: Path) -> None:
    run = extproc("sessions", "list", "--json")
    assert run.code == 0
    assert [(row["id"], row["user"], row["exchanges"]) for row in run.rows] == [
        ("s2", "mallory", 1),
        ("s1", "alice", 2),
    ]
    assert [row["id"] for row in extproc("sessions", "list", "--json", "--user", "alice").rows] == ["s1"]
    assert [row["id"] for row in extproc("sessions", "list", "--json", "--limit", "1").rows] == ["s2"]
    table = extproc("sessions", "list", "--state-dir", str(state)).out
    for fact in ("alice", "mallory", "s1", "s2", "gpt-5", "2 completed", "cli/1"):
        assert fact in table


def test_the_state_directory_is_taken_from_the_environment(
    extproc: Extproc, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = state.rename(state.with_name("elsewhere"))
    assert extproc("sessions", "list").code == 1
    monkeypatch.setenv("EXTPROC_STATE_DIR", str(moved))
    assert len(extproc("sessions", "list", "--json").rows) == 2


@pytest.mark.usefixtures("state")
def test_a_session_or_one_exchange_of_it_is_shown(extproc: Extproc) -> None:
    run = extproc("sessions", "show", "s1", "--json")
    assert [(row["id"], row["outcome"], row["response"]["text"]) for row in run.rows] == [
        ("x0", "completed", "Hello"),
        ("x1", "completed", "Hello"),
    ]
    assert [row["id"] for row in extproc("sessions", "show", "x2", "--json").rows] == ["x2"]
    shown = extproc("sessions", "show", "s1").out
    assert shown.count("say hello") == 2


@pytest.mark.usefixtures("state")
def test_a_replay_tells_the_pauses_of_the_newest_session_or_the_named_one(extproc: Extproc) -> None:
    assert extproc("replay", "--json").rows == [
        {"id": "x2", "after_seconds": 0.25, "text": "He"},
        {"id": "x2", "after_seconds": 0.25, "text": "Hello"},
    ]
    assert [row["id"] for row in extproc("replay", "s1", "--json").rows] == ["x0", "x0", "x1", "x1"]
    run = extproc("replay", "s1", "--no-wait")
    assert run.code == 0
    assert run.out.count("Hello") == 2
    assert extproc("replay", "x2", "--speed", "100").code == 0


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("command", [["sessions", "show", "nope"], ["replay", "nope"]])
def test_an_unknown_id_is_told_with_1(extproc: Extproc, command: list[str]) -> None:
    run = extproc(*command)
    assert (run.code, run.out) == (1, "")
    assert run.err == "extproc: no session or exchange has the id 'nope'\n"


@pytest.mark.parametrize("command", [["sessions", "list"], ["sessions", "show", "s1"], ["replay"]])
def test_a_missing_store_is_told_with_1(extproc: Extproc, command: list[str]) -> None:
    run = extproc(*command)
    assert run.code == 1
    assert run.err.startswith("extproc: there is no store at .extproc/record.db")


@pytest.mark.parametrize(
    "command", [["replay", "--speed", "0"], ["sessions", "list", "--limit", "0"], ["sessions", "frob"], ["frob"]]
)
def test_wrong_usage_is_told_with_2(extproc: Extproc, command: list[str]) -> None:
    assert extproc(*command).code == 2


# --- serving and development -----------------------------------------------------------------------------------------


def test_serve_does_not_start_without_good_settings(extproc: Extproc, tmp_path: Path) -> None:
    run = extproc("serve")
    assert (run.code, run.err) == (2, "extproc: gateway.yaml: cannot be read: No such file or directory\n")
    (tmp_path / "bad.yaml").write_text("policy: p.yaml\nlistn: []\n")
    run = extproc("serve", "--config", "bad.yaml")
    assert run.code == 2
    assert "bad.yaml:2: listn: unknown key" in run.err


def test_a_token_of_a_demo_user_has_his_groups_and_is_signed_by_the_dev_issuer(
    extproc: Extproc, tmp_path: Path
) -> None:
    files.prepare(tmp_path / ".extproc", files.Ports(), "http://127.0.0.1:1", now=time.time())
    run = extproc("dev", "token", "--user", "bob", "--minutes", "5")
    assert run.code == 0
    public = keys.load_or_create(tmp_path / ".extproc" / "issuer.pem").private.public_key()
    claims = jwt.decode(run.out.strip(), public, ["RS256"], audience=files.AUDIENCE, issuer=files.Ports().issuer_url)
    assert (claims["preferred_username"], claims["groups"]) == ("bob", ["developers", "approvers"])
    assert claims["exp"] - claims["iat"] == 300


@pytest.mark.parametrize("option", ["--group", "--groups"])
def test_a_token_of_anybody_has_the_named_groups(extproc: Extproc, tmp_path: Path, option: str) -> None:
    files.prepare(tmp_path / ".extproc", files.Ports(), "http://127.0.0.1:1", now=time.time())
    run = extproc("dev", "token", "--user", "eve", option, "a,b")
    claims = jwt.decode(run.out.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["groups"]) == ("eve", ["a", "b"])


def test_a_token_of_a_stranger_needs_groups(extproc: Extproc) -> None:
    run = extproc("dev", "token", "--user", "eve")
    assert run.code == 2
    assert "'eve' is none of alice, bob" in run.err


def test_dev_up_refuses_an_upstream_that_is_no_address(extproc: Extproc) -> None:
    run = extproc("dev", "up", "--upstream", "https://example.com")
    assert run.code == 2
    assert run.err.startswith("extproc: ")


@pytest.mark.parametrize("command", [("sessions", "list"), ("verify",), ("findings", "list"), ("retention", "plan")])
def test_the_state_of_another_user_is_one_line_and_exit_code_2(
    extproc: Extproc, tmp_path: Path, command: tuple[str, ...]
) -> None:
    state = tmp_path / ".extproc"
    state.mkdir(mode=0o000)
    user = os.geteuid()
    try:
        # To root nothing is forbidden.
        os.seteuid(user or 65534)
        run = extproc(*command)
    finally:
        os.seteuid(user)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert "Permission denied; run it as the service's user" in run.err
