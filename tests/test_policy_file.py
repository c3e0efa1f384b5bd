from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.approval import ApprovalRule, Scope
from extproc.approval.requests import touches_of_request
from extproc.approval.touch import Act, Touch
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import ConfigError
from extproc.identity.principal import Principal
from extproc.masking.finding import Action, Direction
from extproc.masking.policy import MaskingPolicy
from extproc.policy import Effect, Facts
from extproc.policy_file import load, schema, warnings
from extproc.yaml_file import MAX_BYTES

DOCS = Path(__file__).parent.parent / "docs"

ALICE = Principal(
    "https://i#1", "alice", "person", "https://i", "1", groups=frozenset({"7b0c"}), claims={"ref": "main"}
)
CHAT = Facts(EndpointKind.CHAT, Upstream.COPILOT_API, "POST", "api.githubcopilot.com", "/chat/completions", "gpt-5")

GOOD = """\
version: 1
credential: copilot
groups:
  developers: [7b0c]
metadata:
  - GET /models
  - github-api: GET /repos/**
  - "copilot-api: GET /_ping"
rules:
  - id: no-o1
    when: {endpoints: [chat], models: ["o1*"]}
    effect: deny
    reason: >
      Not o1.
  - id: developers
    when:
      groups: [developers]
      claims: {ref: ["m*"]}
      kinds: [person]
    effect: allow
  - id: alice
    when: {users: [alice]}
    effect: allow
    credential: business
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def faults(file: Path, text: str | bytes) -> list[str]:
    """Write the file, and return the lines of the error that loading it must raise, without the directory."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(file)
    return [line.removeprefix(f"{file.parent}/") for line in str(caught.value).splitlines()]


AS_BOOLEAN = '{0}, which YAML reads as a boolean: if text is meant, write "{0}"'


def in_rule(text: str) -> str:
    """Put one more line, the fifth, into the only rule of a file that is otherwise fine."""
    return f"version: 1\nrules:\n  - id: r\n    effect: allow\n    {text}\n"


def test_a_good_file_becomes_a_policy(file: Path) -> None:
    file.write_text(GOOD)
    policy = load(file)
    assert [r.decision.rule_id for r in policy.rules] == ["no-o1", "developers", "alice"]
    assert policy.credentials() == {"copilot", "business"}
    assert policy.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert warnings(file) == []


def test_a_loaded_policy_decides(file: Path) -> None:
    file.write_text(GOOD)
    policy = load(file)
    allowed = policy.decide(ALICE, CHAT)
    assert (allowed.effect, allowed.rule_id, allowed.credential) == (Effect.ALLOW, "developers", "copilot")
    denied = policy.decide(ALICE, Facts(CHAT.endpoint, CHAT.upstream, "POST", CHAT.host, CHAT.path, "O1-mini"))
    assert (denied.effect, denied.rule_id, denied.reason) == (Effect.DENY, "no-o1", "Not o1.")
    # A name that the file lists stands for the ids there and no longer for itself.
    named = Principal(
        "https://i#2", "bob", "person", "https://i", "2", frozenset({"developers"}), claims={"ref": "main"}
    )
    assert policy.decide(named, CHAT).rule_id == "default"


def test_metadata_entries_name_an_upstream_or_mean_any(file: Path) -> None:
    file.write_text(GOOD)
    policy = load(file)
    assert policy.is_metadata("GET", Upstream.COPILOT_PROXY, "/models")
    assert policy.is_metadata("GET", Upstream.GITHUB_API, "/repos/a/b")
    assert not policy.is_metadata("GET", Upstream.COPILOT_API, "/repos/a/b")
    assert policy.is_metadata("GET", Upstream.COPILOT_API, "/_ping")
    assert not policy.is_metadata("GET", Upstream.GITHUB_API, "/_ping")


def test_a_rule_without_when_matches_everything(file: Path) -> None:
    file.write_text("version: 1\nrules:\n  - {id: all, effect: allow, credential: c}\n")
    assert load(file).decide(ALICE, CHAT).rule_id == "all"
    file.write_text("version: 1\nrules:\n  - {id: all, effect: allow, credential: c, when: {}}\n")
    assert load(file).decide(ALICE, CHAT).rule_id == "all"


def test_unicode_names_and_a_byte_order_mark_are_fine(file: Path) -> None:
    text = "\ufeffversion: 1\nrules:\n  - {id: r, effect: allow, credential: c, when: {users: [Jörg, 山田]}}\n"
    file.write_text(text, encoding="utf-8")
    policy = load(file)
    assert policy.decide(Principal("x", "山田", "person", "i", "s"), CHAT).effect is Effect.ALLOW
    assert policy.decide(Principal("x", "山", "person", "i", "s"), CHAT).effect is Effect.DENY


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("when: {model: [x]}", 'rules[0].when.model: unknown key; did you mean "models"?'),
        ("whan: {}", 'rules[0].whan: unknown key; did you mean "when"?'),
        ("zzz: 1", "rules[0].zzz: unknown key; known are id, when, effect, credential, reason"),
        ("when:", "rules[0].when: expected a mapping (key: value); got nothing"),
        ("when: [a]", "rules[0].when: expected a mapping (key: value); got a list"),
        ("when: {groups: developers}", "rules[0].when.groups: expected a list, write [developers]"),
        ("when: {groups: {a: b}}", "rules[0].when.groups: expected a list; got a mapping"),
        ("when: {groups: }", "rules[0].when.groups: expected a list; got nothing"),
        ("when: {groups: []}", "rules[0].when.groups: empty, so it would match nothing; leave the key out instead"),
        ("when: {claims: {}}", "rules[0].when.claims: empty, so it would match nothing; leave the key out instead"),
        (
            "when: {claims: {a: []}}",
            "rules[0].when.claims.a: empty, so it would match nothing; leave the key out instead",
        ),
        ("when: {claims: {ref: main}}", "rules[0].when.claims.ref: expected a list, write [main]"),
        (
            "when: {users: [yes]}",
            f"rules[0].when.users[0]: expected text; got {AS_BOOLEAN.format('yes')}",
        ),
        (
            "when: {users: [1.5]}",
            "rules[0].when.users[0]: expected text; got 1.5, which YAML reads as a number: if text",
        ),
        (
            "when: {claims: {run: [12]}}",
            'rules[0].when.claims.run[0]: expected text; got the number 12: if text is meant, write "12"',
        ),
        (
            "when: {claims: {on: [x]}}",
            f"rules[0].when.claims: expected text as a key; got {AS_BOOLEAN.format('on')}",
        ),
        ("when: {kinds: [robot]}", "rules[0].when.kinds[0]: expected 'person' or 'workload'; got \"robot\""),
        ("when: {endpoints: [caht]}", "rules[0].when.endpoints[0]: expected"),
        ("when: {upstreams: [[x]]}", "rules[0].when.upstreams[0]: expected"),
        ("when: {methods: [get]}", 'rules[0].when.methods[0]: expected text of the form ^[A-Z]+$; got "get"'),
        ("when: {paths: [models]}", "rules[0].when.paths[0]: expected a path: it begins with /"),
        ("when: {paths: [/a**]}", "rules[0].when.paths[0]: ** must stand alone between slashes"),
        ("when: {repositories: [acme]}", "rules[0].when.repositories[0]: expected OWNER/NAME"),
        ("when: !!set {a}", "rules[0].when: expected a mapping (key: value); got this, which YAML reads as set"),
        ("reason: ''", "rules[0].reason: String should have at least 1 character"),
        ("credential: !secret x", "rules[0].credential: expected text; got x, which YAML reads as !secret"),
        ('reason: "\\ud800"', "rules[0].reason: "),
        ("effect: deny", "rules[0].effect: the key is already on line 4"),
    ],
)
def test_a_fault_in_a_rule_is_told_with_line_place_and_what_was_expected(file: Path, line: str, expected: str) -> None:
    (told,) = faults(file, in_rule(line))
    assert told.startswith(f"policy.yaml:5: {expected}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("on: x", f"rules[0]: expected text as a key; got {AS_BOOLEAN.format('on')}"),
        ("? [a]\n    : b", "rules[0]: expected text as a key; got a list"),
        ('"\\ud800": x', "rules[0]: expected text as a key; got \\ud800, which YAML reads as half a character"),
        ('"\\n": x', 'rules[0]."\\n": unknown key'),
    ],
)
def test_a_key_that_is_not_text_is_told_as_such_first(file: Path, line: str, expected: str) -> None:
    assert faults(file, in_rule(line))[0].startswith(f"policy.yaml:5: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: []\n", "policy.yaml:1: version: required, but it is missing"),
        ("version: 2\nrules: []\n", "policy.yaml:1: version: expected 1; got the number 2"),
        ("version: true\nrules: []\n", "policy.yaml:1: version: expected 1; got true, which YAML reads as a boolean"),
        ("version: 1\n", "policy.yaml:1: rules: required, but it is missing"),
        ("# nothing\nversion: 1\nrules:\n", "policy.yaml:3: rules: expected a list; got nothing"),
        ("[a]\n", "policy.yaml:1: expected a mapping (key: value); got a list"),
        ("version: 1\nrules:\n- id: Bad\n  effect: allow\n", "policy.yaml:3: rules[0].id: expected text of the form"),
        ("version: 1\nrules:\n- id: default\n  effect: deny\n", 'policy.yaml:3: rules[0].id: "default" names'),
        (
            "version: 1\nrules:\n- id: a\n  effect: approve\n",
            "policy.yaml:4: rules[0].effect: expected 'allow', 'deny' or 'require-approval'",
        ),
        ("version: 1\nrules:\n- id: a\n  effect:\n    no1\n", "policy.yaml:4: rules[0].effect: expected 'allow'"),
        ("version: 1\nrules:\n- effect: deny\n  id: a\n- id: b\n", "policy.yaml:5: rules[1].effect: required, but"),
        (
            "version: 1\nrules:\n- id: a\n  effect: deny\n- id: a\n  effect: deny\n",
            "policy.yaml:5: rules[1].id: the id is already that of rules[0]",
        ),
        (
            "version: 1\nrules:\n- id: a\n  effect: deny\n  credential: c\n",
            "policy.yaml:5: rules[0].credential: a deny rule has no use for a credential",
        ),
        ("version: 1\ngroups:\n  a: x\nrules: []\n", "policy.yaml:3: groups.a: expected a list, write [x]"),
        ("version: 1\nmetadata: [GET models]\nrules: []\n", 'policy.yaml:2: metadata[0]: expected "METHOD /path" or'),
        (
            "version: 1\nmetadata:\n- x-api: GET /a\nrules: []\n",
            'policy.yaml:3: metadata[0]: expected "METHOD /path" or',
        ),
        ("version: 1\nmetadata: [GET /a**]\nrules: []\n", "policy.yaml:2: metadata[0]: ** must stand alone"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_line(file: Path, text: str, expected: str) -> None:
    (told,) = faults(file, text)
    assert told.startswith(expected)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "policy.yaml:1: the file is empty"),
        (b"# only a comment\n", "policy.yaml:1: the file is empty"),
        (b"version: 1\nrules: [\xff]\n", "policy.yaml:2: not UTF-8"),
        ("version: 1\n".encode("utf-16"), "policy.yaml:1: not UTF-8"),
        (b"version: 1\nrules:\n\t- id: a\n", "policy.yaml:3: a tab; write spaces"),
        (b"version: 1\nrules: \x00\n", "policy.yaml:2: a character that YAML does not allow"),
        (b"version: 1\nrules: [a\n", "policy.yaml:3: not valid YAML: while parsing a flow sequence"),
        (b"version: 1\nrules: [*.com]\n", "policy.yaml:2: not valid YAML: while scanning an alias"),
        (b"version: 1\n---\nversion: 1\n", "policy.yaml:2: not valid YAML: expected a single document"),
        (b"a: &x [1]\nb: *x\n", "policy.yaml:1: a YAML anchor or alias"),
        (b"a: 1\nb: *x\n", "policy.yaml:2: a YAML anchor or alias"),
        (b"a: 1\nb: " + b"[" * 100_000, "policy.yaml:2: nested more than 8 levels deep"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(file: Path, raw: bytes, expected: str) -> None:
    (told,) = faults(file, raw)
    assert told.startswith(expected)


def test_an_alias_bomb_is_refused_before_it_grows(file: Path) -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
    (told,) = faults(file, f"l0: &l0 [x]\n{levels}")
    assert told.startswith("policy.yaml:1: a YAML anchor or alias")


def test_a_file_that_is_missing_or_too_large_is_told(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.yaml: cannot be read: No such file"):
        load(file)
    (told,) = faults(file, b"#" * (MAX_BYTES + 1))
    assert told == f"policy.yaml: larger than {MAX_BYTES} bytes"


def test_all_faults_are_told_in_the_order_of_the_file(file: Path) -> None:
    text = "colour: red\nversion: 1\nrules:\n- id: A\n  effect: no\n- id: b\n  id: b\n  effect: deny\n  credential: x\n"
    lines = [int(line.split(":")[1]) for line in faults(file, text)]
    assert lines == [1, 4, 5, 7, 9]


# --- masking ---------------------------------------------------------------------------------------------------------


def with_masking(section: str) -> str:
    """Put the section, from the third line on, into a file that is otherwise fine."""
    return f"version: 1\nmasking:\n{section}rules: []\n"


def test_without_a_masking_section_secrets_are_masked_both_ways(file: Path) -> None:
    file.write_text(GOOD)
    assert load(file).masking == MaskingPolicy()
    file.write_text("version: 1\nmasking: {}\nrules: []\n")
    assert load(file).masking == MaskingPolicy()


MASKING = """\
  secrets: { prompts: block }
  personal-data: { prompts: observe, answers: off }
  rule-files:
    - { name: acme, file: rules/acme.yaml, prompts: off, answers: block }
    - { name: more-2, file: more.toml }
  allow:
    - { rules: [generic-password, "acme-*"], regex: "^test-", paths: ["tests/**"] }
    - { regex: example }
"""


def test_a_masking_section_becomes_a_masking_policy(file: Path) -> None:
    (file.parent / "rules").mkdir()
    for name in ("rules/acme.yaml", "more.toml"):
        (file.parent / name).touch()
    file.write_text(with_masking(MASKING))
    masking = load(file).masking
    assert [(one.name, one.file, one.prompts, one.answers) for one in masking.sets] == [
        ("secrets", None, Action.BLOCK, Action.MASK),
        ("personal-data", None, Action.OBSERVE, Action.OFF),
        ("acme", file.parent / "rules/acme.yaml", Action.OFF, Action.BLOCK),
        ("more-2", file.parent / "more.toml", Action.MASK, Action.MASK),
    ]
    assert masking.action("acme", Direction.ANSWER) is Action.BLOCK
    assert masking.allows("acme-key", "test-1", ["tests/a"])
    assert not masking.allows("acme-key", "prod-1", ["tests/a"])
    assert masking.allows("any", "my example")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("  secret: {}\n", '3: masking.secret: unknown key; did you mean "secrets"?'),
        ("  rule_files: []\n", '3: masking.rule_files: unknown key; did you mean "rule-files"?'),
        ("  secrets: { promts: off }\n", '3: masking.secrets.promts: unknown key; did you mean "prompts"?'),
        ("  personal-data: { x: off }\n", "3: masking.personal-data.x: unknown key; known are prompts, answers"),
        ("  secrets: off\n", "3: masking.secrets: expected a mapping (key: value); got off, which YAML"),
        ("  secrets: { prompts: on }\n", "3: masking.secrets.prompts: expected 'mask', 'block', 'observe' or 'off'"),
        ("  secrets: { prompts: Mask }\n", "3: masking.secrets.prompts: expected 'mask', 'block', 'observe' or"),
        ("  secrets: { prompts: false }\n", "3: masking.secrets.prompts: expected 'mask'"),
        ("  secrets: { prompts: }\n", "3: masking.secrets.prompts: expected 'mask', 'block', 'observe' or 'off'; got"),
        ("  secrets: { prompts: 0 }\n", "3: masking.secrets.prompts: expected 'mask'"),
        ("  rule-files: []\n", "3: masking.rule-files: empty"),
        ("  rule-files:\n    - { name: a }\n", "4: masking.rule-files[0].file: required"),
        ("  rule-files:\n    - { name: A b, file: f }\n", "4: masking.rule-files[0].name: expected text of the form"),
        ("  rule-files:\n    - { name: secrets, file: f }\n", "4: masking.rule-files[0].name: a set of rules that is"),
        (
            "  rule-files:\n    - name: a\n      flie: f\n      file: f\n",
            "5: masking.rule-files[0].flie: unknown key; did",
        ),
        ("  rule-files:\n    - name: a\n      file: none.yaml\n", "5: masking.rule-files[0].file: "),
        ("  rule-files:\n    - name: a\n      file: .\n", "5: masking.rule-files[0].file: "),
        ('  rule-files:\n    - name: a\n      file: "a\\0b"\n', "5: masking.rule-files[0].file: expected a path"),
        (
            "  rule-files:\n    - { name: a, file: policy.yaml }\n    - { name: a, file: policy.yaml }\n",
            "5: masking.rule-files[1].name: the name is already that of rule-files[0]; expected a unique one",
        ),
        ("  allow: []\n", "3: masking.allow: empty"),
        ("  allow:\n    - { rules: [a] }\n", "4: masking.allow[0]: expected regex or paths"),
        ("  allow:\n    - { rules: [], regex: a }\n", "4: masking.allow[0].rules: empty"),
        ("  allow:\n    - { path: [a], regex: a }\n", '4: masking.allow[0].path: unknown key; did you mean "paths"?'),
        ("  allow:\n    - { regex: '(' }\n", "4: masking.allow[0].regex: expected a regular expression of Python: "),
        ("  allow:\n    - { regex: 'a{9999999999}' }\n", "4: masking.allow[0].regex: expected a regular expression"),
        ("  allow:\n    - { regex: '[[a]' }\n", "4: masking.allow[0].regex: expected a regular expression of Python: "),
        ("  allow:\n    - { regex: 'a*' }\n", "4: masking.allow[0].regex: expected an expression that does not match"),
        ("  allow:\n    - { regex: '' }\n", "4: masking.allow[0].regex: "),
        ("  allow:\n    - { paths: tests }\n", "4: masking.allow[0].paths: expected a list, write [tests]"),
        ("  allow:\n    - { paths: ['!a'] }\n", "4: masking.allow[0].paths[0]: expected a path"),
        ("  allow:\n    - { paths: [a/../b] }\n", "4: masking.allow[0].paths[0]: expected a path"),
        ("  allow:\n    - { paths: [a**] }\n", "4: masking.allow[0].paths[0]: ** must stand alone"),
    ],
)
def test_a_fault_of_the_masking_section_is_told_with_its_line(file: Path, section: str, expected: str) -> None:
    (told,) = faults(file, with_masking(section))
    assert told.startswith(f"policy.yaml:{expected}")


def test_a_rule_file_that_is_missing_is_a_fault_for_warnings_too(file: Path) -> None:
    file.write_text(with_masking("  rule-files: [{ name: a, file: none.yaml }]\n"))
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        warnings(file)


def doubts(file: Path, rules: str, top: str = "credential: c\n") -> list[str]:
    file.write_text(f"version: 1\n{top}rules:\n{rules}")
    return [line.removeprefix(f"{file.parent}/") for line in warnings(file)]


def test_a_rule_after_one_that_matches_everything_is_a_warning(file: Path) -> None:
    (told,) = doubts(file, "- {id: all, effect: deny}\n- {id: late, effect: allow}\n")
    assert told == 'policy.yaml:5: rules[1]: never reached: the rule "all" before it matches every request'
    assert doubts(file, "- {id: late, effect: allow}\n") == []


@pytest.mark.parametrize(
    ("effect", "when", "warned"),
    [
        ("deny", "{models: [x]}", "models"),
        ("deny", "{models: [x], endpoints: [metadata]}", "models"),
        ("deny", "{models: [x], endpoints: [chat, responses, messages]}", None),
        ("deny", "{models: [x], endpoints: [chat, completions]}", "models"),
        ("deny", "{repositories: [a/b], endpoints: [chat]}", "repositories"),
        ("allow", "{models: [x], repositories: [a/b]}", None),
    ],
)
def test_a_deny_rule_on_a_fact_that_may_be_missing_is_a_warning(
    file: Path, effect: str, when: str, warned: str | None
) -> None:
    told = doubts(file, f"- id: r\n  effect: {effect}\n  when: {when}\n")
    assert [line.split(": ")[1] for line in told] == ([f"rules[0].when.{warned}"] if warned else [])


def test_an_allow_rule_without_any_credential_is_a_warning(file: Path) -> None:
    (told,) = doubts(file, "- {id: a, effect: allow}\n", top="")
    assert told.startswith("policy.yaml:3: rules[0]: allows without an upstream credential")


def test_metadata_with_a_body_and_unused_group_names_are_warnings(file: Path) -> None:
    told = doubts(
        file, "- {id: a, effect: allow}\n", top="credential: c\ngroups: {x: [y]}\nmetadata: [POST /telemetry]\n"
    )
    assert [line.split(": ")[:2] for line in told] == [["policy.yaml:3", "groups.x"], ["policy.yaml:4", "metadata[0]"]]


# --- tunnels, telemetry, refusals, accounts --------------------------------------------------------------------------

TUNNELS = """\
version: 1
credential: copilot
groups: { staff: [7b0c] }
telemetry: pass
refusals: answer
rules:
  - { id: no-evil, effect: deny, when: { hosts: ["evil.*"] } }
  - { id: staff, effect: allow, when: { groups: [staff] } }
  - id: packages
    when: { groups: [staff], endpoints: [tunnel], hosts: [packages.example.com, "*.mirror.example.com"] }
    effect: allow
"""


def tunnel(host: str) -> Facts:
    return Facts(EndpointKind.TUNNEL, Upstream.TUNNEL, "CONNECT", host, "")


def test_a_loaded_policy_opens_the_tunnels_it_lists_without_a_credential(file: Path) -> None:
    file.write_text(TUNNELS)
    policy = load(file)
    opened = policy.decide(ALICE, tunnel("packages.example.com"))
    assert (opened.effect, opened.rule_id, opened.credential) == (Effect.ALLOW, "packages", None)
    assert policy.decide(ALICE, tunnel("other.example.com")).rule_id == "default"
    assert policy.decide(ALICE, tunnel("evil.mirror.example.com")).rule_id == "no-evil"
    assert policy.decide(ALICE, CHAT).credential == "copilot"
    assert warnings(file) == []


def test_telemetry_and_refusals_are_as_the_file_says(file: Path) -> None:
    file.write_text(TUNNELS)
    assert (load(file).telemetry, load(file).refusals) == ("pass", "answer")
    file.write_text(GOOD)
    assert (load(file).telemetry, load(file).refusals) == ("block", "error")


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ("telemetry: allow", "2: telemetry: expected 'block' or 'pass'; got \"allow\""),
        ("telemetry: off", "2: telemetry: expected 'block' or 'pass'; got off, which YAML reads as a boolean"),
        ("telemetry:", "2: telemetry: expected 'block' or 'pass'; got nothing"),
        ("refusals: errors", "2: refusals: expected 'error' or 'answer'; got \"errors\""),
        ("refusal: error", '2: refusal: unknown key; did you mean "refusals"?'),
        (
            "metadata: ['copilot-telemetry: GET /telemetry']",
            "2: metadata[0]: the key `telemetry` of the file decides about all that goes there",
        ),
        ("metadata: [copilot-telemetry: GET /x]", "2: metadata[0]: the key `telemetry` of the file decides"),
        ("metadata: [tunnel: GET /x]", '2: metadata[0]: expected "METHOD /path" or'),
    ],
)
def test_a_fault_of_a_key_at_the_top_is_told_with_its_line(file: Path, top: str, expected: str) -> None:
    (told,) = faults(file, f"version: 1\n{top}\nrules: []\n")
    assert told.startswith(f"policy.yaml:{expected}")


OPEN = "endpoints: [tunnel]"
NOT_READ = "a tunnel is not read, so the gateway cannot know this of it"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "effect: allow, when: {endpoints: [chat, telemetry]}",
            "when.endpoints[1]: telemetry comes without identity, so no rule can decide about it: write `telemetry: bl",
        ),
        ("effect: deny, when: {endpoints: [telemetry]}", "when.endpoints[0]: telemetry comes without identity"),
        ("effect: deny, when: {endpoints: [telemetry], tools: [a]}", "when.endpoints[0]: telemetry comes without id"),
        (
            "effect: allow, when: {endpoints: [tunnel, chat], hosts: [a.b]}",
            "when.endpoints: a rule that opens tunnels is for nothing else: expected [tunnel] alone",
        ),
        (
            f"effect: allow, when: {{{OPEN}, groups: [a]}}",
            "when: a rule that opens tunnels must say where to: expected `hosts`, such as [packages.example.com]",
        ),
        (f"effect: allow, when: {{{OPEN}, hosts: [a.b], models: [a]}}", f"when.models: {NOT_READ}"),
        (f"effect: allow, when: {{{OPEN}, hosts: [a.b], paths: [/a]}}", f"when.paths: {NOT_READ}"),
        (f"effect: allow, when: {{{OPEN}, hosts: [a.b], methods: [CONNECT]}}", f"when.methods: {NOT_READ}"),
        (f"effect: allow, when: {{{OPEN}, hosts: [a.b], repositories: [a/b]}}", f"when.repositories: {NOT_READ}"),
        (f"effect: allow, when: {{{OPEN}, hosts: [a.b], upstreams: [tunnel]}}", f"when.upstreams: {NOT_READ}"),
        (f"effect: allow, when: {{{OPEN}, hosts: []}}", "when.hosts: empty, so it would match nothing"),
        (
            f"effect: allow, credential: c, when: {{{OPEN}, hosts: [a.b]}}",
            "credential: a tunnel has no use for a credential",
        ),
        (
            f"effect: deny, when: {{{OPEN}, files: [a]}}",
            "when.endpoints: what passes through a tunnel is not read, so a rule about touches cannot see it",
        ),
    ],
)
def test_a_rule_on_tunnels_or_telemetry_that_makes_no_sense_is_a_fault(file: Path, rule: str, expected: str) -> None:
    (told,) = faults(file, f"version: 1\nrules:\n- {{id: r, {rule}}}\n")
    assert told.startswith(f"policy.yaml:3: rules[0].{expected}")


def test_a_rule_may_close_tunnels_in_any_way(file: Path) -> None:
    assert doubts(file, "- {id: r, effect: deny, when: {endpoints: [tunnel, chat], methods: [CONNECT]}}\n") == []
    assert load(file).decide(ALICE, tunnel("a.b")).rule_id == "r"


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("packages.example.com", None),
        ("*.example.com", None),
        ("Packages.Example.com", None),
        ("*", "expected a host such as"),
        ("*.com", "expected a host such as"),
        ("*example.com", "expected a host such as"),
        ("packages.*", "expected a host such as"),
        ("packages.example.com:443", "expected a host such as"),
        ("https://packages.example.com", "expected a host such as"),
        ("10.0.0.1", "expected a host such as"),
        ("*.githubcopilot.com", "api.githubcopilot.com is read, never tunnelled; what else"),
        ("api.github.com", "api.github.com is read, never tunnelled; what else"),
    ],
)
def test_a_tunnel_to_strangers_or_to_copilot_is_a_warning(file: Path, host: str, warned: str | None) -> None:
    told = doubts(file, f"- {{id: r, effect: allow, when: {{endpoints: [tunnel], hosts: [a.b, '{host}']}}}}\n", top="")
    assert [line.startswith(f"policy.yaml:3: rules[0].when.hosts[1]: {warned}") for line in told] == [True] * bool(
        warned
    )


def test_a_rule_on_tunnels_is_reached_behind_one_that_allows_everything_else(file: Path) -> None:
    opening = "- {id: r, effect: allow, when: {endpoints: [tunnel], hosts: [a.example.com]}}\n"
    assert doubts(file, f"- {{id: all, effect: allow}}\n{opening}") == []
    (told,) = doubts(file, f"- {{id: all, effect: deny}}\n{opening}")
    assert 'never reached: the rule "all"' in told


NO_ACCOUNT = (
    "policy.yaml:3: rules: no rule allows `account`: clients that exchange tokens (the language server, VS Code)"
)


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        (["effect: allow, when: {endpoints: [chat, models]}"], True),
        (["effect: allow, when: {endpoints: [chat]}", "effect: allow, when: {models: [x]}"], True),
        (["effect: allow, when: {endpoints: [chat]}", "effect: deny, when: {endpoints: [account]}"], True),
        (["effect: allow, when: {endpoints: [chat, account]}"], False),
        (["effect: allow, when: {endpoints: [chat]}", "effect: allow, when: {endpoints: [account]}"], False),
        (["effect: allow, when: {endpoints: [chat]}", "effect: allow, when: {users: [a]}"], False),
        (["effect: allow, when: {endpoints: [github, mcp]}"], False),
        (["effect: allow, when: {models: [x]}"], False),
    ],
)
def test_models_without_the_account_that_clients_ask_for_are_a_warning(
    file: Path, rules: list[str], *, warned: bool
) -> None:
    told = doubts(file, "".join(f"- {{id: r{index}, {rule}}}\n" for index, rule in enumerate(rules)))
    assert [line.startswith(NO_ACCOUNT) for line in told] == [True] * warned


# --- protections -----------------------------------------------------------------------------------------------------

PROTECTED = """\
version: 1
credential: c
groups: { reviewers: [7b0c, 9d1e] }
rules:
  - id: docs
    when: { files: ["**/infra/docs/**"] }
    effect: allow
  - id: files
    when: { groups: [reviewers], files: ["infra/**"] }
    effect: require-approval
    approval: { approvers: [reviewers, other] }
  - id: all
    effect: allow
  - id: merges
    when: { acts: [merge], branches: [main], repositories: [acme/*], tools: ["*"] }
    effect: require-approval
    approval:
      approvers: [other]
      count: 2
      expires_minutes: 60
      message: Ask Bob.
      requester_may_approve: true
      scopes: [window, once, window]
      window_minutes: 5
  - id: shells
    when: { acts: [shell] }
    effect: deny
    reason: Never.
"""


def test_rules_about_touches_are_kept_apart_as_protections(file: Path) -> None:
    file.write_text(PROTECTED)
    policy = load(file)
    assert [rule.decision.rule_id for rule in policy.rules] == ["all"]
    assert [one.rule_id for one in policy.protections] == ["docs", "files", "merges", "shells"]
    assert policy.credentials() == {"c"}
    assert warnings(file) == []


def test_an_approval_block_becomes_a_rule_with_the_ids_of_its_approvers(file: Path) -> None:
    file.write_text(PROTECTED)
    _, files, merges, _ = load(file).protections
    assert files.approval == ApprovalRule("files", frozenset({"7b0c", "9d1e", "other"}))
    assert merges.approval == ApprovalRule(
        "merges",
        frozenset({"other"}),
        count=2,
        expires_seconds=3600.0,
        message="Ask Bob.",
        requester_may_approve=True,
        scopes=(Scope.WINDOW, Scope.ONCE),
        window_seconds=300.0,
    )


@pytest.mark.parametrize(
    ("touch", "expected"),
    [
        (Touch(Act.EDIT, "edit", "infra/prod.tf"), ("files", "require-approval")),
        (Touch(Act.EDIT, "edit", "infra/docs/a.md"), None),
        (Touch(Act.EDIT, "edit", "src/a.py"), None),
        (Touch(Act.SHELL, "bash", "src/a.py"), ("shells", "deny")),
        (Touch(Act.MERGE, "merge", None, "acme/app"), ("merges", "require-approval")),
        (Touch(Act.MERGE, "merge", None, "other/app"), None),
        (Touch(Act.MERGE, "merge", None, "acme/app", "dev"), None),
    ],
)
def test_loaded_protections_judge(file: Path, touch: Touch, expected: tuple[str, str] | None) -> None:
    file.write_text(PROTECTED)
    told = [(one.rule_id, one.effect.value) for one in load(file).judge(ALICE, CHAT, [touch])]
    assert told == ([expected] if expected else [])


def test_the_groups_of_a_protection_are_those_of_who_asks(file: Path) -> None:
    file.write_text(PROTECTED)
    stranger = Principal("https://i#2", "bob", "person", "https://i", "2", frozenset({"reviewers"}))
    assert load(file).judge(stranger, CHAT, [Touch(Act.EDIT, "edit", "infra/prod.tf")]) == []


ASKS = "effect: require-approval\n    approval: { approvers: [a] }"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("when: { files: [a, '!b'] }\n    effect: deny", "4: rules[0].when.files[1]: '!b': a negated pattern"),
        ("when: { files: [a/../b] }\n    effect: deny", "4: rules[0].when.files[0]: 'a/../b': expected a path"),
        ("when: { files: [] }\n    effect: deny", "4: rules[0].when.files: empty"),
        ("when: { tools: edit }\n    effect: deny", "4: rules[0].when.tools: expected a list, write [edit]"),
        ("when: { acts: [write] }\n    effect: deny", "4: rules[0].when.acts[0]: expected 'edit', 'shell', 'merge'"),
        (
            "when: { branches: [refs/heads/main] }\n    effect: deny",
            "4: rules[0].when.branches[0]: expected a branch without refs/heads/",
        ),
        ("when: { file: [a] }\n    effect: deny", '4: rules[0].when.file: unknown key; did you mean "files"?'),
        (
            "when: { files: [a] }\n    effect: allow\n    credential: c",
            "6: rules[0].credential: a rule about touches has no use for a credential",
        ),
        (
            "when: { files: [a] }\n    effect: deny\n    credential: c",
            "6: rules[0].credential: a deny rule has no use for a credential",
        ),
        (ASKS, "4: rules[0].effect: require-approval is for touches: expected files, tools, acts, branches in"),
        (
            f"when: {{ repositories: [a/b], paths: [/a] }}\n    {ASKS}",
            "5: rules[0].effect: require-approval is for touches",
        ),
        (
            "when: { files: [a] }\n    effect: require-approval",
            "5: rules[0].effect: require-approval without `approval`",
        ),
        (
            "when: { files: [a] }\n    effect: deny\n    approval: { approvers: [a] }",
            "6: rules[0].approval: only a rule with the effect require-approval",
        ),
        (f"when: {{ files: [a] }}\n    {ASKS}\n    reason: x", "7: rules[0].reason: nothing is denied yet"),
    ],
)
def test_a_fault_of_a_protection_is_told_with_its_line(file: Path, rule: str, expected: str) -> None:
    (told,) = faults(file, f"version: 1\nrules:\n  - id: r\n    {rule}\n")
    assert told.startswith(f"policy.yaml:{expected}")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("count: 1", "6: rules[0].approval.approvers: required, but it is missing"),
        ("approvers: []", "7: rules[0].approval.approvers: empty"),
        ("approvers: a", "7: rules[0].approval.approvers: expected a list, write [a]"),
        (
            "approvers: [a]\n      approver: [b]",
            '8: rules[0].approval.approver: unknown key; did you mean "approvers"?',
        ),
        ("approvers: [a]\n      count: 0", "8: rules[0].approval.count: Input should be greater than or equal to 1"),
        ("approvers: [a]\n      count: '2'", '8: rules[0].approval.count: Input should be a valid integer; got "2"'),
        ("approvers: [a]\n      expires_minutes: 61", "8: rules[0].approval.expires_minutes: Input should be less"),
        ("approvers: [a]\n      expires_minutes: 0.5", "8: rules[0].approval.expires_minutes: Input should be a valid"),
        ("approvers: [a]\n      window_minutes: 0", "8: rules[0].approval.window_minutes: Input should be greater"),
        ("approvers: [a]\n      message: ''", "8: rules[0].approval.message: String should have at least 1"),
        (
            "approvers: [a]\n      requester_may_approve: 1",
            "8: rules[0].approval.requester_may_approve: expected true or false; got the number 1",
        ),
        (
            "approvers: [a]\n      requester_may_approve: 'true'",
            '8: rules[0].approval.requester_may_approve: expected true or false; got "true"',
        ),
        (
            "approvers: [a]\n      requester_may_approve:",
            "8: rules[0].approval.requester_may_approve: expected true or false; got nothing",
        ),
        ("approvers: [a]\n      scopes: [ever]", "8: rules[0].approval.scopes[0]: expected 'once', 'session' or 'win"),
        ("approvers: [a]\n      scopes: []", "8: rules[0].approval.scopes: empty"),
    ],
)
def test_a_fault_of_an_approval_block_is_told_with_its_line(file: Path, block: str, expected: str) -> None:
    head = "version: 1\nrules:\n  - id: r\n    when: { files: [a] }\n    effect: require-approval\n    approval:\n"
    (told,) = faults(file, f"{head}      {block}\n")
    assert told.startswith(f"policy.yaml:{expected}")


def test_an_approval_that_is_no_mapping_is_a_fault(file: Path) -> None:
    for wrong in ("", "[a]", "yes"):
        text = (
            f"version: 1\nrules:\n- id: r\n  when: {{ files: [a] }}\n  effect: require-approval\n  approval: {wrong}\n"
        )
        (told,) = faults(file, text)
        assert told.startswith("policy.yaml:6: rules[0].approval: expected a mapping (key: value); got ")


@pytest.mark.parametrize("word", ["false", "no", "off"])
def test_requester_may_approve_takes_the_booleans_of_yaml(file: Path, word: str) -> None:
    file.write_text(PROTECTED.replace("requester_may_approve: true", f"requester_may_approve: {word}"))
    (approval,) = (one.approval for one in load(file).protections if one.rule_id == "merges")
    assert approval is not None
    assert approval.requester_may_approve is False


def protection_doubts(file: Path, *rules: str) -> list[str]:
    told = doubts(file, "".join(f"- {{id: r{index}, {rule}}}\n" for index, rule in enumerate(rules)))
    return [line.split(": ", maxsplit=1)[1] for line in told]


@pytest.mark.parametrize(
    ("first", "warned"),
    [
        ("effect: deny, when: {tools: ['*']}", True),
        ("effect: allow, when: {tools: ['*']}", True),
        ("effect: deny, when: {acts: [dispatch, edit, shell, merge, push]}", True),
        ("effect: deny, when: {branches: ['*'], repositories: ['*/*']}", True),
        # What is not known is not allowed.
        ("effect: allow, when: {branches: ['*']}", False),
        # A merge is about no file.
        ("effect: deny, when: {files: ['**']}", False),
        ("effect: deny, when: {acts: [edit, shell, merge, push]}", False),
        ("effect: deny, when: {tools: ['*'], users: [alice]}", False),
        ("effect: deny, when: {tools: ['*'], files: ['**']}", False),
        # It decides about requests.
        ("effect: allow", False),
    ],
)
def test_a_protection_after_one_that_matches_everything_is_a_warning(file: Path, first: str, *, warned: bool) -> None:
    told = protection_doubts(file, first, "effect: deny, when: {acts: [push]}")
    assert told == (['rules[1]: never reached: the rule "r0" before it matches everything'] if warned else [])


def test_no_protection_hides_a_rule_about_requests(file: Path) -> None:
    assert protection_doubts(file, "effect: deny, when: {tools: ['*']}", "effect: allow") == []


def test_a_protection_that_some_requests_dodge_and_a_window_of_no_use_are_warnings(file: Path) -> None:
    block = "effect: require-approval, approval: {approvers: [x], window_minutes: 5}"
    models, window = protection_doubts(file, f"when: {{acts: [merge], models: [x], repositories: [a/b]}}, {block}")
    assert models.startswith("rules[0].when.models: a request of account or agents or ")
    assert "telemetry" not in models
    assert models.endswith("this rule does not apply to it")
    assert window == "rules[0].approval.window_minutes: of no use: scopes do not offer window"


def test_a_group_that_only_approves_is_used(file: Path) -> None:
    asks = "- {id: r, when: {files: [a]}, effect: require-approval, approval: {approvers: [x]}}\n"
    assert doubts(file, asks, top="groups: {x: [y]}\n") == []


# --- the policy of the development gateway ---------------------------------------------------------------------------

DEV = DOCS.parent / "extproc" / "dev" / "policy.yaml"
DEVELOPER = Principal("https://i#1", "alice", "person", "https://i", "1", groups=frozenset({"developers"}))


def github(method: str, path: str) -> Facts:
    return Facts(EndpointKind.GITHUB, Upstream.GITHUB_API, method, "api.github.com", path, None, "o/r")


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/repos/o/r/pulls/1/merge",
        "/repos/o/r/contents/docs/a.md",
        "/repos/o/r/contents",
        "/repos/o/r/git/refs",
        "/repos/o/r/git/refs/heads/main",
        "/repos/o/r/git/refs/tags/v1",
        "/repos/o/r/actions/workflows/ci.yml/dispatches",
        "/REPOS/O/R/pulls/1/Merge/",
    ],
)
def test_the_dev_policy_holds_every_write_to_github_that_it_allows(method: str, path: str) -> None:
    policy = load(DEV)
    facts = github(method, path)
    assert policy.decide(DEVELOPER, facts).rule_id == "developers-github-held"
    touches = touches_of_request(method, path, {}, EndpointKind.GITHUB)
    (judged,) = policy.judge(DEVELOPER, facts, touches)
    assert (judged.rule_id, judged.effect) == ("merges-and-pushes", Effect.REQUIRE_APPROVAL)
    assert judged.touches == tuple(touches)


@pytest.mark.parametrize("path", ["/repos/o/r/pulls", "/repos/o/r", "/repos/o/r/git/trees", "/repos/o/r/issues/1"])
def test_the_dev_policy_denies_all_other_writes_to_github(path: str) -> None:
    assert load(DEV).decide(DEVELOPER, github("POST", path)).effect is Effect.DENY
    assert load(DEV).decide(DEVELOPER, github("GET", path)).effect is Effect.ALLOW


@pytest.mark.parametrize("path", ["infra/prod.tf", "a/b/main.tf", ".github/workflows/ci.yml", "infra\\x", None])
@pytest.mark.parametrize("act", [Act.EDIT, Act.SHELL])
def test_the_dev_policy_asks_approvers_about_privileged_files(act: Act, path: str | None) -> None:
    (judged,) = load(DEV).judge(DEVELOPER, CHAT, [Touch(act, "tool", path), Touch(act, "tool", "src/main.py")])
    assert (judged.rule_id, judged.touches) == ("privileged-files", (Touch(act, "tool", path),))
    assert judged.approval is not None
    assert judged.approval.approvers == {"approvers"}
    assert judged.approval.scopes == (Scope.ONCE, Scope.SESSION, Scope.WINDOW)


def test_the_dev_policy_lets_developers_sign_in_and_opens_no_tunnel() -> None:
    policy = load(DEV)
    path = "/copilot_internal/v2/token"
    token = Facts(EndpointKind.ACCOUNT, Upstream.GITHUB_API, "GET", "api.github.com", path)
    stranger = Principal("https://i#2", "mallory", "person", "https://i", "2")
    assert policy.decide(DEVELOPER, token).effect is Effect.ALLOW
    assert policy.decide(stranger, token).effect is Effect.DENY
    assert policy.decide(DEVELOPER, tunnel("packages.example.com")).rule_id == "default"
    assert policy.telemetry == "pass"


def test_the_example_of_a_tunnel_in_the_dev_policy_works(file: Path) -> None:
    text = DEV.read_text(encoding="utf-8")
    (example,) = re.findall(r"(?m)^  # (- id: developers-packages\n(?:  #   .*\n)+)", text)
    file.write_text(text + "  " + example.replace("  #   ", "    "))
    assert load(file).decide(DEVELOPER, tunnel("a.mirror.example.com")).rule_id == "developers-packages"
    assert warnings(file) == []


def test_the_dev_policy_has_no_warnings() -> None:
    assert warnings(DEV) == []


KEYS = ["version", "rules", "id", "when", "effect", "groups", "models", "claims", "metadata", "masking", "secrets"]
OF_MASKING = ["personal-data", "rule-files", "allow", "prompts", "off", "file", "name", "regex", "paths"]
OF_ENDPOINTS = ["endpoints", "hosts", "tunnel", "telemetry", "refusals", "chat"]
OF_APPROVAL = ["files", "acts", "tools", "require-approval", "approval", "approvers", "scopes"]
WORDS = st.sampled_from(["\n", *KEYS, *OF_MASKING, *OF_ENDPOINTS, *OF_APPROVAL])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
RULES = st.lists(st.dictionaries(WORDS, VALUES, max_size=4) | VALUES, max_size=3)


@given(st.builds(lambda rules, rest: {"version": 1, "rules": rules, **rest}, RULES, st.dictionaries(WORDS, VALUES)))
def test_any_structure_loads_or_is_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    file = tmp_path_factory.getbasetemp() / "structure.yaml"
    file.write_text(json.dumps(data))
    try:
        load(file)
        told = []
    except ConfigError as error:
        told = str(error).split("\n")
    assert all(re.match(rf"{re.escape(str(file))}:\d+: ", line) for line in told)


@given(st.binary(max_size=60) | st.text("-:[]{}&*!|>'\"#%@ \nab0", max_size=60).map(str.encode))
def test_any_bytes_are_a_config_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError):
        load(file)


def test_the_schema_in_the_documentation_is_up_to_date() -> None:
    # To write it anew: extproc policy schema > docs/policy.schema.json
    assert json.loads((DOCS / "policy.schema.json").read_text()) == schema()


def test_the_schema_describes_every_condition_and_refuses_unknown_keys() -> None:
    when = schema()["$defs"]["When"]
    assert when["additionalProperties"] is False
    assert all(condition["description"] for condition in when["properties"].values())
    approval = schema()["$defs"]["ApprovalModel"]
    assert approval["additionalProperties"] is False
    assert all(key["description"] for key in approval["properties"].values())
    masking = schema()["$defs"]["MaskingModel"]
    assert masking["additionalProperties"] is False
    assert set(masking["properties"]) == {"secrets", "personal-data", "rule-files", "allow"}


def test_the_metadata_pattern_of_the_schema_is_one_that_editors_understand() -> None:
    pattern = schema()["properties"]["metadata"]["items"]["anyOf"][0]["pattern"]
    python = pattern.replace("(?<", "(?P<")  # JSON Schema patterns are ECMA-262
    assert re.search(python, "github-api: GET /repos/**")
    assert not re.search(python, "GET models")


def test_the_example_in_the_guide_loads_without_a_warning(file: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "policy.md").read_text(encoding="utf-8"), re.DOTALL)
    example, tunnels, protections, masking = blocks
    file.write_text(example)
    assert load(file).credentials() == {"copilot", "copilot-ci"}
    assert warnings(file) == []
    file.write_text(example + tunnels)
    assert [one.decision.rule_id for one in load(file).rules][-1] == "packages"
    assert warnings(file) == []
    file.write_text(example + protections)
    assert [one.rule_id for one in load(file).protections] == ["docs-of-infra", "privileged-files", "main-is-closed"]
    assert warnings(file) == []
    (file.parent / "rules").mkdir()
    (file.parent / "rules" / "acme.yaml").touch()
    file.write_text(example + masking)
    assert [one.name for one in load(file).masking.sets] == ["secrets", "personal-data", "acme"]
    assert warnings(file) == []
