from __future__ import annotations

from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.retention.plan import Keep
from extproc.retention.rules_file import load

GOOD = """\
version: 1
groups:
  developers: [7b0c]
rules:
  - id: secret
    match: {groups: [developers, ops], repositories: ["acme/*"], outcomes: [completed, denied]}
    bodies_days: 30
    heads_days: 365
default: {bodies_days: 90, heads_days: 2555}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "retention.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    rules = load(write(tmp_path, GOOD))
    assert rules.default == Keep("default", 90, 2555)
    for group in ("7b0c", "ops"):
        facts = {"groups": [group], "repository": "Acme/x", "outcome": "denied"}
        assert rules.keep(facts) == Keep("secret", 30, 365)
    assert rules.keep({"groups": ["developers"], "repository": "acme/x", "outcome": "denied"}).rule == "default"
    assert len(rules.digest) == 64


def test_rules_may_be_left_out_but_not_the_default(tmp_path: Path) -> None:
    assert load(write(tmp_path, "version: 1\ndefault: {bodies_days: 1, heads_days: 1}\n")).rules == ()
    with pytest.raises(ConfigError, match="default: required, but it is missing"):
        load(write(tmp_path, "version: 1\n"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("heads_days: 365", "heads_days: 29", ":8: rules[0].heads_days: heads are kept at least as long as bodies"),
        ("heads_days: 2555", "heads_days: 89", ":9: default.heads_days: heads are kept at least as long as bodies"),
        ("bodies_days: 30", "bodies_days: 0", ":7: rules[0].bodies_days: Input should be greater than or equal to 1"),
        ("bodies_days: 30", "bodies_days: forever", ":7: rules[0].bodies_days: "),
        ("bodies_days: 30", "body_days: 30", ':7: rules[0].body_days: unknown key; did you mean "bodies_days"?'),
        ("outcomes:", "outcome:", ':6: rules[0].match.outcome: unknown key; did you mean "outcomes"?'),
        ("denied", "refused", ":6: rules[0].match.outcomes[1]: expected "),
        ('"acme/*"', "acme", ":6: rules[0].match.repositories[0]: expected OWNER/NAME"),
        ("[developers, ops]", "[]", ":6: rules[0].match.groups: empty, so it would match nothing"),
        ("id: secret", "id: default", ':5: rules[0].id: "default" names what no rule matches'),
        ("id: secret", "id: Secret!", ":5: rules[0].id: expected text of the form"),
        ("version: 1", "version: 2", ":1: version: expected 1"),
    ],
)
def test_a_fault_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, GOOD.replace(old, new)))
    assert told in str(raised.value)


def test_a_rule_that_matches_everything_and_one_of_the_same_name_are_faults(tmp_path: Path) -> None:
    more = "  - {id: secret, match: {}, bodies_days: 1, heads_days: 1}\ndefault:"
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, GOOD.replace("default:", more)))
    assert "rules[1].id: the id is already that of rules[0]" in str(raised.value)
    assert "rules[1].match: it would match everything; that is what `default` is for" in str(raised.value)
