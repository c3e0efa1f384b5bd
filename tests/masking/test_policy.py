from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.masking.finding import Action, Direction
from extproc.masking.policy import Allowance, MaskingPolicy, RuleSetPolicy, file_glob

ACME = RuleSetPolicy("acme", None, prompts=Action.BLOCK, answers=Action.OBSERVE)


def test_without_a_word_secrets_are_masked_both_ways_and_personal_data_is_not_looked_for() -> None:
    default = MaskingPolicy()
    for direction in Direction:
        assert default.action("secrets", direction) is Action.MASK
        assert default.action("personal-data", direction) is Action.OFF
    assert [one.name for one in default.in_use()] == ["secrets"]
    assert not default.allows("any", "secret", ["tests/x"])


def test_a_set_has_an_action_for_each_direction() -> None:
    policy = MaskingPolicy((ACME,))
    assert policy.action("acme", Direction.PROMPT) is Action.BLOCK
    assert policy.action("acme", Direction.ANSWER) is Action.OBSERVE
    with pytest.raises(KeyError, match="secrets"):
        policy.action("secrets", Direction.PROMPT)


@pytest.mark.parametrize("prompts", Action)
@pytest.mark.parametrize("answers", Action)
def test_only_a_set_that_is_off_both_ways_is_not_in_use(prompts: Action, answers: Action) -> None:
    policy = MaskingPolicy((RuleSetPolicy("x", None, prompts, answers),))
    assert bool(policy.in_use()) is ((prompts, answers) != (Action.OFF, Action.OFF))


# --- allowances ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowance", "rule", "secret", "paths", "expected"),
    [
        (Allowance(regex=re.compile("^test-")), "any", "test-1", [], True),
        (Allowance(regex=re.compile("example")), "any", "an example!", [], True),
        (Allowance(regex=re.compile("^test-")), "any", "prod-test-1", [], False),
        (Allowance(("acme-*", "npm"), re.compile("x")), "acme-key", "x", [], True),
        (Allowance(("acme-*", "npm"), re.compile("x")), "npm", "x", [], True),
        (Allowance(("acme-*", "npm"), re.compile("x")), "npm-2", "x", [], False),
        (Allowance(paths=("tests/**",)), "any", "s", ["tests/a.py"], True),
        (Allowance(paths=("tests/**",)), "any", "s", [], False),
        (Allowance(paths=("tests/**",)), "any", "s", ["tests/a.py", "src/a.py"], False),
        (Allowance(paths=("tests/**", "src/*")), "any", "s", ["tests/a.py", "src/a.py"], True),
        (Allowance(("r",), re.compile("s"), ("tests/**",)), "r", "s", ["tests/a"], True),
        (Allowance(("r",), re.compile("s"), ("tests/**",)), "q", "s", ["tests/a"], False),
        (Allowance(("r",), re.compile("s"), ("tests/**",)), "r", "t", ["tests/a"], False),
        (Allowance(("r",), re.compile("s"), ("tests/**",)), "r", "s", ["src/a"], False),
    ],
)
def test_an_allowance_covers_what_all_its_conditions_hold_for(
    allowance: Allowance, rule: str, secret: str, paths: list[str], *, expected: bool
) -> None:
    assert allowance.covers(rule, secret, paths) is expected
    assert MaskingPolicy(allow=(allowance,)).allows(rule, secret, paths) is expected


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("tests/**", "tests/a/b.py", True),
        ("tests/**", "./tests/b.py", True),
        ("tests/**", "/home/alice/app/tests/b.py", True),
        ("tests/**", r"C:\app\tests\b.py", True),
        ("tests/**", "/app/mytests/b.py", False),
        ("tests/**", "/app/Tests/b.py", False),
        ("tests/", "/app/tests/b.py", True),
        ("/tests/**", "tests/b.py", True),
        ("/tests/**", "/app/tests/b.py", False),
        ("/app/tests/**", "/app/tests/b.py", True),
        ("*.md", "/app/docs/x.md", True),
        ("*.md", "/app/x.md/b.py", False),
        ("docs/*.md", "/app/docs/x.md", True),
        ("docs/*.md", "/app/docs/a/x.md", False),
        ("a b/[id]/%41", "/app/a b/[id]/%41", True),
        ("**", "anything", True),
        ("tests/**", "tests/../src/b.py", False),
        ("tests/**", r"tests\..\src\b.py", False),
        ("**", "..", False),
        ("tests/**", "", False),
        ("*.env", "/app/prod.env\n", False),
    ],
)
def test_a_glob_of_files_is_like_one_of_gitignore_at_any_depth(glob: str, path: str, *, expected: bool) -> None:
    assert Allowance(paths=(glob,)).covers("any", "s", [path]) is expected


@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_path_that_leads_upwards_is_ever_covered(start: str, rest: list[str]) -> None:
    assert not Allowance(paths=("**",)).covers("any", "s", ["/".join([start, "..", *rest])])


@pytest.mark.parametrize("glob", ["!a", r"a\b", "../a", "./a", "a/./b", "a//b", "//a", "a/..", "a**"])
def test_a_glob_that_could_never_match_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path|stand alone"):
        file_glob(glob)
    with pytest.raises(ValueError, match=r"expected a path|stand alone"):
        Allowance(paths=(glob,))


def test_an_allowance_for_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a regex or paths"):
        Allowance(("rule",))
