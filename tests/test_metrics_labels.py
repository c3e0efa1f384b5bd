from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from extproc import policy_file
from extproc.identity.principal import Principal
from extproc.metrics_labels import MAX_LEARNED, OTHER, Labels, labels_of

POLICY = """\
version: 1
credential: github
groups: { team-b: [id-b, id-c], team-a: [id-b] }
rules:
  - { id: models, effect: allow, when: { groups: [team-b, staff], models: [GPT-5, "claude-*", "a b"] } }
  - { id: infra, effect: deny, when: { groups: [ops], files: ["infra/**"] } }
"""


def member(*groups: str) -> Principal:
    return Principal("i#a", "a", "person", "i", "a", groups=frozenset(groups))


def labels(tmp_path: Path) -> Labels:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return labels_of(policy_file.load(path))


def test_groups_have_the_first_name_that_the_policy_gives_them(tmp_path: Path) -> None:
    found = labels(tmp_path)
    assert found.group(member("id-c")) == "team-b"
    assert found.group(member("id-b")) == "team-a"
    assert found.group(member("staff", "id-c", "ops")) == "ops"
    assert found.group(member("unknown", "team-b")) == OTHER
    assert found.group(member()) == OTHER
    assert found.group(None) == OTHER


def test_models_of_the_policy_have_a_label_whether_they_answer_or_not(tmp_path: Path) -> None:
    found = labels(tmp_path)
    assert found.model("gpt-5") == found.model("Gpt-5") == "gpt-5"
    assert found.model("claude-sonnet-4") == found.model("claude-*") == found.model("a b") == OTHER


def test_other_models_get_a_label_when_they_answer_and_so_many_only() -> None:
    found = Labels(["named"])
    assert found.model("m0") == OTHER
    learned = [found.model(f"m{number}", has_answered=True) for number in range(MAX_LEARNED)]
    assert learned == [f"m{number}" for number in range(MAX_LEARNED)]
    assert found.model("m0") == "m0"
    assert found.model("one-more", has_answered=True) == OTHER
    assert found.model("named", has_answered=True) == "named"


def test_text_is_no_model() -> None:
    found = Labels()
    for name in (None, "", "two words", "x" * 65, "line\nbreak", "-x", "[MASKED:github-pat]", "modèle"):
        assert found.model(name, has_answered=True) == OTHER
    assert found.model("x" * 64, has_answered=True) == "x" * 64
    assert found.model("accounts/a/models/m:v1@2.0+b_c", has_answered=True) != OTHER


@given(st.lists(st.text(max_size=70), max_size=200))
def test_labels_stay_few_and_short_whatever_is_asked_for(names: list[str]) -> None:
    found = Labels()
    seen = {found.model(name, has_answered=True) for name in names}
    assert len(seen) <= MAX_LEARNED + 1
    assert all(len(name) <= 64 and name.isascii() for name in seen)
