from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.approval import ApprovalRule
from extproc.approval.protection import Effect, Judgement, Protection, judge, protection, touch_condition
from extproc.approval.touch import Act, Touch

APPROVAL = ApprovalRule("asks", frozenset({"approvers"}), message="Ask Bob.")
REPOSITORY = "acme/app"


def edit(path: str | None = "infra/prod.tf", tool: str = "edit") -> Touch:
    return Touch(Act.EDIT, tool, path)


def of(effect: Effect, rule_id: str = "r", /, **when: list[str]) -> Protection:
    approval = APPROVAL if effect is Effect.REQUIRE_APPROVAL else None
    touched = [touch_condition(name, written) for name, written in when.items()]
    return protection(rule_id, effect, [], touched, approval=approval)


def matches(touch: Touch, effect: Effect = Effect.DENY, repository: str | None = REPOSITORY, **when: list[str]) -> bool:
    return of(effect, "r", **when).matches(touch, repository)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["infra/prod.tf", "./infra/prod.tf", "x/../infra/prod.tf", "INFRA\\prod.tf", "/ws/infra/prod.tf"]
)
def test_a_protected_file_is_found_however_it_is_written(path: str) -> None:
    assert matches(edit(path), files=["docs/**", "infra/**"])
    assert not matches(edit(path), files=["docs/**"])


@pytest.mark.parametrize(
    ("act", "expected"),
    [(Act.EDIT, True), (Act.SHELL, True), (Act.PUSH, True), (Act.MERGE, False), (Act.DISPATCH, False)],
)
def test_what_may_be_about_any_file_is_about_a_protected_one(act: Act, *, expected: bool) -> None:
    assert matches(Touch(act, "t"), files=["infra/**"]) is expected
    assert matches(Touch(act, "t"), Effect.REQUIRE_APPROVAL, files=["infra/**"]) is expected
    assert not matches(Touch(act, "t"), Effect.ALLOW, files=["**"])


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("docs/a.md", "docs/**", True),
        ("Docs/A.md", "docs/**", True),
        ("a/docs/a.md", "docs/**", False),
        ("a/docs/a.md", "**/docs/**", True),
        ("docs/../infra/a", "docs/**", False),
        ("docs/../docs/a", "docs/**", True),
        # Where the workspace begins is not known: this may be infra/docs/a.md.
        ("/ws/infra/docs/a.md", "docs/**", False),
        ("/ws/infra/docs/a.md", "**/docs/**", True),
        ("/ws/a.md", "*.md", True),
        # On Linux this is a file of the root, on Windows one of docs.
        ("docs\\a.tf", "docs/**", False),
        ("docs/a%2e", "docs/**", False),
        ("docs/\u200ba", "docs/**", False),
        ("docs/a*", "docs/**", False),
        ("infra/", "infra/docs/**", False),
        ("", "**", False),
        ("/" + "a/" * 99 + "a.md", "*.md", False),
    ],
)
def test_an_allowance_is_for_a_path_that_can_be_read_in_one_way_only(path: str, glob: str, *, expected: bool) -> None:
    assert matches(edit(path), Effect.ALLOW, files=[glob]) is expected


@given(st.text(max_size=30), st.sampled_from(["docs/**", "*.md", "/a/*", "**"]))
def test_what_an_allowance_matches_a_denial_matches_too(path: str, glob: str) -> None:
    assert not matches(edit(path), Effect.ALLOW, files=[glob]) or matches(edit(path), files=[glob])


# --- the other conditions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "tool", "expected"),
    [
        ("edit", "edit", True),
        ("EDIT", "Edit", True),
        ("edit", "multi_edit", False),
        ("*_file", "create_file", True),
        ("mutation *", "mutation mergePullRequest", True),
        ("PUT /repos/*", "PUT /repos/{owner}/{repo}/contents/{path}", True),
        ("e.it", "edit", False),
    ],
)
def test_tools_are_globs_in_any_case(glob: str, tool: str, *, expected: bool) -> None:
    assert matches(edit(tool=tool), tools=[glob]) is expected
    assert matches(edit(tool=tool), Effect.ALLOW, tools=[glob]) is expected


def test_an_act_is_one_of_those_that_are_named() -> None:
    assert matches(Touch(Act.MERGE, "t"), acts=["push", "merge"])
    assert not matches(Touch(Act.MERGE, "t"), acts=["push", "dispatch"])


@pytest.mark.parametrize("branch", ["main", "MAIN", "heads/main", "refs/heads/main", "release/1/2"])
def test_a_branch_is_found_however_it_is_written(branch: str) -> None:
    push = Touch(Act.PUSH, "git-receive-pack", branch=branch)
    assert matches(push, branches=["main", "release/*"])
    assert matches(push, Effect.ALLOW, branches=["main", "release/*"])
    assert not matches(push, branches=["mai", "dev"])


def test_a_touch_without_a_branch_is_on_the_protected_one_and_on_no_allowed_one() -> None:
    merge = Touch(Act.MERGE, "merge_pull_request")
    assert matches(merge, branches=["main"])
    assert matches(merge, Effect.REQUIRE_APPROVAL, branches=["main"])
    assert not matches(merge, Effect.ALLOW, branches=["*"])


@pytest.mark.parametrize(
    ("touched", "requested", "expected"),
    [
        ("acme/infra", "acme/app", (True, True)),
        ("ACME/Infra.git", None, (True, True)),
        (None, "acme/infra", (True, True)),
        ("acme/app", "acme/infra", (False, False)),
        (None, "acme/app", (False, False)),
        (None, None, (True, False)),
        ("acme/app/../infra", None, (True, False)),
        ("infra", None, (True, False)),
    ],
)
def test_the_repository_is_that_of_the_touch_else_that_of_the_request_else_any(
    touched: str | None, requested: str | None, expected: tuple[bool, bool]
) -> None:
    push = Touch(Act.PUSH, "push_files", repository=touched)
    told = [matches(push, effect, requested, repositories=["acme/inf*"]) for effect in (Effect.DENY, Effect.ALLOW)]
    assert tuple(told) == expected


def test_all_conditions_must_hold() -> None:
    both = of(Effect.DENY, acts=["edit"], files=["infra/**"])
    assert both.matches(edit(), None)
    assert not both.matches(edit("docs/a.md"), None)
    assert not both.matches(Touch(Act.SHELL, "bash", "infra/prod.tf"), None)


@pytest.mark.parametrize(
    ("name", "glob"),
    [
        ("files", "!a"),
        ("files", "a/../b"),
        ("branches", "refs/heads/main"),
        ("branches", "heads/x"),
        ("repositories", "acme"),
        ("acts", "write"),
    ],
)
def test_a_malformed_value_is_refused(name: str, glob: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|expected|valid Act"):
        touch_condition(name, [glob])


# --- judging ---------------------------------------------------------------------------------------------------------


def test_the_first_protection_that_matches_decides_about_a_touch() -> None:
    allow, deny = of(Effect.ALLOW, files=["infra/docs/**"]), of(Effect.DENY, files=["infra/**"])
    assert judge([allow, deny], [edit("infra/docs/a.md")], None) == []
    (told,) = judge([deny, allow], [edit("infra/docs/a.md")], None)
    assert (told.rule_id, told.effect) == ("r", Effect.DENY)


def test_a_touch_that_nothing_matches_passes() -> None:
    assert judge([of(Effect.DENY, files=["infra/**"])], [edit("docs/a.md")], None) == []
    assert judge([], [edit()], None) == []


def test_there_is_one_judgement_for_each_rule_and_denials_come_first() -> None:
    tf, yml, md, free = edit("a.tf"), edit("b.yml"), edit("c.md"), edit("d.py")
    protections = [
        of(Effect.REQUIRE_APPROVAL, "first", files=["*.tf"]),
        of(Effect.DENY, "second", files=["*.yml"]),
        of(Effect.REQUIRE_APPROVAL, "third", files=["*.md"]),
        of(Effect.DENY, "fourth", files=["*.sh"]),
    ]
    told = judge(protections, [md, free, tf, edit("e.sh"), yml, edit("x/f.tf")], None)
    assert [(one.rule_id, one.touches) for one in told] == [
        ("second", (yml,)),
        ("fourth", (edit("e.sh"),)),
        ("first", (tf, edit("x/f.tf"))),
        ("third", (md,)),
    ]


def test_a_judgement_says_why_and_whom_to_ask() -> None:
    asks = protection("asks", Effect.REQUIRE_APPROVAL, [], [], approval=APPROVAL)
    assert judge([asks], [edit()], None) == [
        Judgement("asks", Effect.REQUIRE_APPROVAL, "Ask Bob.", APPROVAL, (edit(),))
    ]
    silent = protection("asks", Effect.REQUIRE_APPROVAL, [], [], approval=ApprovalRule("asks", frozenset({"a"})))
    assert '"asks"' in silent.reason
    assert protection("no", Effect.DENY, [], [], reason="Never.").reason == "Never."
    assert '"no"' in protection("no", Effect.DENY, [], []).reason


@pytest.mark.parametrize(
    ("effect", "approval"), [(Effect.REQUIRE_APPROVAL, None), (Effect.DENY, APPROVAL), (Effect.ALLOW, APPROVAL)]
)
def test_a_protection_asks_if_and_only_if_it_says_whom(effect: Effect, approval: ApprovalRule | None) -> None:
    with pytest.raises(ValueError, match="approvers"):
        protection("r", effect, [], [], approval=approval)


def test_an_objection_says_what_was_found_and_what_is_wanted() -> None:
    deny = of(Effect.DENY, files=["infra/**"], acts=["push"])
    assert deny.objections({}, edit("a.md"), None) == ["files: a.md, wanted infra/**", "acts: edit, wanted push"]
    allow = of(Effect.ALLOW, files=["docs/**"], branches=["dev"])
    assert allow.objections({}, edit("/ws/docs/a"), None) == [
        "files: /ws/docs/a, wanted docs/**, but not for certain",
        "branches: not known, wanted dev, but not for certain",
    ]
    assert list(deny.names()) == ["files", "acts"]
