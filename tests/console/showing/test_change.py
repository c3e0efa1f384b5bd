from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.console.showing.change import shown, told
from extproc.console.showing.marks import Marker
from tests.console.rendered import Read


def html(name: str, arguments: Any) -> str:
    return str(shown(told(name, arguments), Marker(iter(()))))


def lines(name: str, arguments: Any) -> list[tuple[str, str]]:
    return re.findall(r'<span class="(\w+)">(.*?)\n</span>', html(name, arguments))


def test_an_edit_is_a_diff_with_a_class_for_each_line() -> None:
    edit = {"path": "a.py", "old_str": "a\nb\nc", "new_str": "a\n<B>\nc", "why": "x"}
    assert lines("edit", json.dumps(edit)) == [
        ("hunk", "--- a/a.py"),
        ("hunk", "+++ b/a.py"),
        ("hunk", "@@ -1,3 +1,3 @@"),
        ("same", " a"),
        ("del", "-b"),
        ("add", "+&lt;B&gt;"),
        ("same", " c"),
        ("same", "{"),
        ("same", "  &#34;why&#34;: &#34;x&#34;"),
        ("same", "}"),
    ]
    assert html("edit", edit) == html("edit", json.dumps(edit))


def test_lines_that_look_like_the_head_of_a_diff_are_what_their_sign_says() -> None:
    edit = {"path": "a.sql", "old_str": "-- a/b", "new_str": "++ b/c\n@@ -9,9 +9,9 @@\n*** End Patch"}
    assert lines("edit", edit)[3:] == [
        ("del", "--- a/b"),
        ("add", "+++ b/c"),
        ("add", "+@@ -9,9 +9,9 @@"),
        ("add", "+*** End Patch"),
    ]


def test_a_return_at_the_end_of_a_line_is_seen() -> None:
    edit = {"path": "a", "old_str": "x\r\ny", "new_str": "x\ny"}
    assert [line for name, line in lines("edit", edit) if name in {"add", "del"}] == ["-x\u240d", "+x"]


def test_a_patch_is_a_diff() -> None:
    patch = "*** Begin Patch\n*** Update File: a.py\n@@ def f\n-a\n+b\n c\n*** End Patch"
    names = [name for name, _ in lines("apply_patch", patch)]
    assert names == ["hunk", "hunk", "hunk", "del", "add", "same", "hunk"]


def test_a_new_file_is_all_added() -> None:
    assert [name for name, _ in lines("create", {"path": "a", "file_text": "x\ny"})][2:] == ["hunk", "add", "add"]


def test_other_calls_are_indented_json() -> None:
    assert html("bash", '{"command":"rm -rf <x>"}') == (
        '<pre class="wrap">{\n  &#34;command&#34;: &#34;rm -rf &lt;x&gt;&#34;\n}</pre>'
    )
    assert html("bash", "no json") == '<pre class="wrap">no json</pre>'
    assert html("bash", None) == '<pre class="wrap">null</pre>'


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_what_is_nested_deeply_is_not_indented(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    assert html("bash", deep) == f'<pre class="wrap">{deep}</pre>'
    assert len(html("bash", {"a": json.loads(deep) if depth < 900 else 1})) < 2 * depth + 100


@given(
    st.text(), st.one_of(st.text(), st.dictionaries(st.sampled_from(["path", "old_str", "new_str", "x"]), st.text()))
)
def test_no_call_makes_markup_or_loses_a_placeholder(name: str, arguments: Any) -> None:
    read = Read(html(name, arguments))
    assert {element for element, _ in read.elements} <= {"pre", "span", "mark"}
