from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.tracing.unified_diff import targets_of_diff

TWO_FILES = """\
diff --git a/a.py b/a.py
index 1..2 100644
--- a/a.py
+++ b/a.py
@@ -1,3 +1,4 @@ def f():
 one
-two
+TWO
+TWO AND A HALF
 three
@@ -20 +21,2 @@
 twenty
+++i;
\\ No newline at end of file
diff --git a/gone.py b/gone.py
--- a/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/new.py b/new.py
--- /dev/null
+++ b/new.py
@@ -0,0 +1 @@
+hello
"""


def test_added_lines_of_each_file_are_wanted_and_those_around_them_are_given() -> None:
    first, second = targets_of_diff(TWO_FILES)
    assert (first.path, first.wanted) == ("a.py", {2, 3, 22})
    assert first.numbers == [1, 2, 3, 4, 21, 22]
    assert first.lines == ["one", "TWO", "TWO AND A HALF", "three", "twenty", "++i;"]
    assert (second.path, second.wanted, second.lines) == ("new.py", {1}, ["hello"])


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("+++ b/src/a.py", "src/a.py"),
        ("+++ src/a.py", "src/a.py"),
        ("+++ a.py\t2026-01-31 09:30:00", "a.py"),
        ('+++ "b/gr\\303\\266\\303\\237e.py"', "größe.py"),
        ("+++ b/a.py\r", "a.py"),
    ],
)
def test_names_are_read_as_git_and_diff_write_them(header: str, path: str) -> None:
    (target,) = targets_of_diff(f"--- a/x\n{header}\n@@ -0,0 +1 @@\n+hello\n")
    assert target.path == path


def test_an_empty_line_may_lack_its_blank() -> None:
    (target,) = targets_of_diff("--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n one\n\n+two\n")
    assert (target.lines, target.wanted) == (["one", "", "two"], {3})


def test_a_hunk_that_was_cut_ends_at_the_next_header() -> None:
    cut = TWO_FILES.replace(" three\n", "").replace(" twenty\n", "")
    assert [target.path for target in targets_of_diff(cut)] == ["a.py", "new.py"]


@pytest.mark.parametrize("text", ["", "hello", "--- a\n+++ b\n", "--- a\n+++ b\n@@@ -1 -1 +1 @@@\n++x\n"])
def test_what_is_no_unified_diff_adds_nothing(text: str) -> None:
    assert list(targets_of_diff(text)) == []


PARTS = st.sampled_from(
    ["--- a/x\n", "+++ b/x\n", "+++ \n", "@@ -1,2 +3,4 @@\n", "@@ -0,0 +9 @@\n", "+a\n", "-b\n", " c\n", "\n"]
)


@given(st.lists(PARTS | st.text()).map("".join))
def test_any_text_can_be_read(text: str) -> None:
    for target in targets_of_diff(text):
        assert len(target.numbers) == len(target.lines)
        assert target.wanted
        assert target.wanted <= set(target.numbers)
