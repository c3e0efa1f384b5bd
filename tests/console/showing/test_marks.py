from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extproc.console.showing.marks import PLACEHOLDER, Findings, Marker, description
from extproc.console.templates import visible
from extproc.masking.finding import Direction, placeholder
from tests.console.rendered import Read


def finding(rule: str, where: str, offset: int, fingerprint: str, **changes: Any) -> dict[str, Any]:
    one = {"rule": rule, "direction": "prompt", "where": where, "offset": offset, "action": "mask", "at": 1.0}
    return {**one, "fingerprint": fingerprint, **changes}


def marked(text: str, findings: list[dict[str, Any]], place: str | None = None) -> list[str]:
    marker = Findings(findings).marker(text, Direction.PROMPT, place)
    return [str(one["title"]) for one in Read(str(marker.markup(text))).all("mark")]


def test_placeholders_are_those_that_masking_makes() -> None:
    match = PLACEHOLDER.fullmatch(placeholder("kingfisher.aws.1"))
    assert match is not None
    assert match[1] == "kingfisher.aws.1"


def test_a_placeholder_tells_its_finding_to_eyes_and_screen_readers_and_can_be_focused() -> None:
    text = "my key is [MASKED:npm]!"
    marker = Findings([finding("npm", "messages[0].content", 10, "f00d")]).marker(text, Direction.PROMPT)
    read = Read(str(marker.markup(text)))
    assert read.text == text
    told = "rule npm: masked in the prompt, at messages[0].content; fingerprint f00d"
    assert read.all("mark") == [{"class": "finding", "tabindex": "0", "title": told, "aria-description": told}]


def test_placeholders_of_one_rule_get_their_findings_by_offset_and_else_in_order() -> None:
    found = [finding("npm", "a", 90, "f1"), finding("npm", "a", 13, "f2"), finding("jwt", "a", 0, "f3")]
    titles = marked("[MASKED:npm] [MASKED:npm] [MASKED:jwt]", found)
    assert [one.rpartition(" ")[2] for one in titles] == ["f1", "f2", "f3"]


def test_findings_of_other_messages_directions_and_actions_are_not_taken() -> None:
    found = [
        finding("npm", "messages[1].content", 0, "f1"),
        finding("npm", "messages[10].content", 0, "f2"),
        finding("npm", "0.text", 0, "f3", direction="answer"),
        finding("npm", "messages[1].content", 0, "f4", action="observe"),
    ]
    assert "f1" in marked("[MASKED:npm]", found, "messages[1]")[0]
    assert "no finding" in marked("[MASKED:npm]", found, "messages[2]")[0]
    assert ["f1" in one for one in marked("[MASKED:npm][MASKED:npm]", found, "messages[1]")] == [True, False]


def test_a_placeholder_that_somebody_typed_is_said_to_have_no_finding() -> None:
    read = Read(str(Marker(iter(())).markup("[MASKED:made-up]")))
    assert read.all("mark")[0]["class"] == "finding unknown"


def test_an_unknown_action_is_told_as_it_is() -> None:
    assert "rule r: <b> in the" in description(finding("r", "w", 0, "f", action="<b>"))


@given(
    st.lists(st.sampled_from(["[MASKED:a]", "[MASKED:", "]", "<b>", "\u202e", "\r\n", "x", "&amp;", "\x00"])).map(
        "".join
    )
)
def test_marking_loses_and_adds_no_text(text: str) -> None:
    assert Read(str(Marker(iter(())).markup(visible(text)))).text == visible(text)


@given(st.dictionaries(st.sampled_from(["rule", "where", "direction", "action", "offset"]), st.text()))
def test_what_a_finding_says_is_never_markup(one: dict[str, Any]) -> None:
    text = "[MASKED:a]"
    marker = Findings([{**one, "rule": "a", "direction": "prompt", "action": "mask"}]).marker(text, Direction.PROMPT)
    read = Read(str(marker.markup(text)))
    assert [name for name, _ in read.elements] == ["mark"]
    assert read.text == text


def test_a_finding_stands_behind_one_placeholder_of_all_texts() -> None:
    findings = Findings([finding("npm", "a", 0, "f1"), finding("npm", "a", 50, "f2")])
    texts = ["[MASKED:npm]", "[MASKED:npm] [MASKED:npm]"]
    html = "".join(findings.marker(one, Direction.PROMPT).markup(one) for one in texts)
    told = [str(one["title"]) for one in Read(html).all("mark")]
    assert ["f1" in told[0], "f2" in told[1], "no finding" in told[2]] == [True, True, True]


def test_very_many_placeholders_that_somebody_typed_take_no_time() -> None:
    findings = Findings([finding("npm", "messages[0]", at, "f1") for at in range(1000)])
    typed = [*["[MASKED:npm]"] * 50_000, *(f"[MASKED:x{at}]" for at in range(50_000))]
    begun = time.process_time()
    findings.marker(" ".join(typed), Direction.PROMPT, "messages[1]")
    # One by one it would be a hundred million comparisons.
    assert time.process_time() - begun < 3
