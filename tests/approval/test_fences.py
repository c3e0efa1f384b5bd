from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.fences import TOOL, FenceWatch, touches_of_text
from extproc.approval.paths import PathRule
from extproc.approval.touch import Act, Touch

RULE = PathRule(["infra/**"])


def is_privileged(touch: Touch) -> bool:
    return touch.path is None or RULE.matches(touch.path)


BLOCKS = {
    "info string": "```hcl infra/x.tf\nx\n```",
    "info string with a colon": "```hcl:infra/x.tf\nx\n```",
    "info string without a language": "```infra/x.tf\nx\n```",
    "title": '```hcl title="infra/x y.tf"\nx\n```',
    "file": "```hcl {file=infra/x}\nx\n```",
    "filename": "```hcl filename='infra/x'\nx\n```",
    "C comment": "```\n// filepath: infra/x\n```",
    "absolute": "```\n// filepath: /home/x/proj/infra/x\n```",
    "hash comment": "```python\n# filepath: infra/x\ny\n```",
    "HTML comment": "```html\n<!-- filepath: infra/x -->\n```",
    "C block comment": "```css\n/* filepath: infra/x */\n```",
    "SQL comment": "```sql\n-- filepath: infra/x\n```",
    "another spelling": "```\n//File Path = infra/x\n```",
    "after a shebang": "```sh\n#!/bin/sh\n# file: infra/x\n```",
    "path comment": "```hcl\n# infra/x.tf\n```",
    "in a later line": "```\na\nb\nc\n// filepath: infra/x\n```",
    "unified diff": "```diff\n--- a/infra/x\n+++ b/infra/x\n```",
    "git diff": "```\ndiff --git a/infra/x b/infra/x\n```",
    "patch": "```\n*** Begin Patch\n*** Update File: infra/x\n```",
    "second file of a diff": "```diff\n--- a/src/x\n+++ b/src/x\n@@\n-y\n--- a/infra/x\n```",
    "tildes": "~~~hcl infra/x\n~~~",
    "more backticks": "````hcl infra/x\n````",
    "within a block": "````md\n```hcl infra/x\n```\n````",
    "indented": "    ```hcl infra/x\n    ```",
    "quoted": "> ```hcl\n> # filepath: infra/x\n> ```",
    "in a list": "- ```hcl infra/x\n```",
    "not closed": "```hcl infra/x\ny",
    "nothing but its beginning": "```infra/x",
    "carriage returns": "a\r```hcl\r// filepath: infra/x\r```",
    "both": "a\r\n```hcl\r\n// filepath: infra/x\r\n```\r\n",
    "the line before": "`infra/x.tf`\n```hcl\ny\n```",
    "the heading before": "### **infra/x.tf**:\n\n```hcl\ny\n```",
    "the link before": "### [x](infra/x)\n```hcl\n```",
    "in disguise": "```\n// filepath: INFRA\\..\\infra\\x\n```",
    "too long": "```\n// filepath: src/" + "x" * 6000 + "/../../infra/x\n```",
    "an info string that is too long": "```hcl " + "x" * 6000 + " infra/x\n```",
    "the second block": "```py\na\n```\n```hcl infra/x\n```",
}


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS.keys())
def test_the_file_that_a_block_names_is_found(text: str) -> None:
    found = touches_of_text(text)
    assert any(map(is_privileged, found))
    assert {(touch.act, touch.tool) for touch in found} == {(Act.EDIT, TOOL)}


@pytest.mark.parametrize("text", BLOCKS.values(), ids=BLOCKS.keys())
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_block_is_held_before_its_file_is_named(text: str, size: int) -> None:
    watch = FenceWatch(is_privileged)
    passed, held = "", ""
    for at in range(0, len(text), size):
        held += text[at : at + size]
        if not watch.feed(text[at : at + size]):
            if watch.take():
                break
            passed, held = passed + held, ""
    else:
        assert watch.end()
    # Nothing passed that names the file in a block: only a name that comes late may come after some of its block.
    assert not any(map(is_privileged, touches_of_text(passed)))


NONE = [
    "infra/x",
    "see `infra/x`:\nno block",
    "```py\nprint('infra/x')\n```",
    "`` infra/x ``",
    "```infra/x```",
    "```\n```\n// filepath: infra/x",
]
NONE += ["// filepath: infra/x", "--- a/infra/x", "```py\n#include <a>\n```", "```py src/x.py\n```", "``\ninfra/x"]


@pytest.mark.parametrize("text", NONE)
def test_other_text_names_nothing_privileged(text: str) -> None:
    assert not any(map(is_privileged, touches_of_text(text)))
    watch = FenceWatch(is_privileged)
    watch.feed(text)
    assert watch.end() == []


def flags(text: str) -> str:
    watch = FenceWatch(is_privileged)
    return "".join("H" if watch.feed(character) else "." for character in text)


@pytest.mark.parametrize(
    ("held", "free"),
    [
        ("", "a `b` c\n"),
        ("`", "b` c"),
        ("```py\nx = 1", "\ny\n"),
        ("```\n\nx", "\ny"),
        ("```py\n# filepath: src/x", "\ny"),
        ("```infra/x\ny\n```", "\nz"),
    ],
)
def test_a_block_is_held_until_it_is_known_to_name_nothing_privileged(held: str, free: str) -> None:
    assert flags(held + free) == "H" * len(held) + "." * len(free)


def test_a_file_named_late_holds_what_follows() -> None:
    before = "```py\nx = 1\n"
    assert flags(before + "# filepath: infra/x\ny\n```\n").endswith("HHHHHHH.")
    assert flags(before + "y\n").endswith("..")


def test_what_was_named_is_taken_once() -> None:
    watch = FenceWatch()
    assert not watch.feed("```infra/x\n```\n")
    assert watch.take() == [Touch(Act.EDIT, TOOL, "infra/x")]
    assert watch.take() == []
    assert watch.end() == []


PIECES = ["```", "~~~", "\n", "\r", "infra/x", " ", "// filepath: ", "--- a/", "> ", "py", "`", "*** Add File: "]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25), st.data())
def test_what_is_found_does_not_depend_on_the_pieces(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    watch = FenceWatch()
    found: list[Touch] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        watch.feed(text[:size])
        found += watch.take()
        text = text[size:]
    found += watch.end()
    assert set(found) == set(touches_of_text("".join(pieces)))


@pytest.mark.parametrize("piece", [" ", ".", "// ", "`", "```", "- ", "#", "1.", "\n```\n// . ", "a=", "/"])
def test_no_text_makes_it_slow(piece: str) -> None:
    start = time.perf_counter()
    for before in ("", "```\n", "```\n// filepath: "):
        touches_of_text(before + piece * (50_000 // len(piece)))
        touches_of_text(before + (piece * 60 + "\n") * 50)
    assert time.perf_counter() - start < 5
