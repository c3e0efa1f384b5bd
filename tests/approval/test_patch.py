from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.approval.patch import patched

HEADERS = {
    "add": ("*** Begin Patch\n*** Add File: a b.py\n+x\n*** End Patch", ["a b.py"]),
    "update and move": ("*** Update File: a\n*** Move to: b\n@@\n-x\n+y", ["a", "b"]),
    "delete": ("*** Delete File: a", ["a"]),
    "another case": ("*** update FILE: a", ["a"]),
    "blanks": ("\t ***Add  File :\ta \r\n", ["a"]),
    "byte order mark": ("\ufeff***\ufeff Add File:\ufeffa\ufeff", ["a"]),
    "a line that is context": (" *** Delete File: a", ["a"]),
    "line ends that only some know": ("x\u2028*** Add File: a\x85*** Add File: b\x0c*** Add File: c", ["a", "b", "c"]),
    "no path": ("*** Add File:", [""]),
    "rename": ("*** Rename File: a\n*** Rename to: b", ["a", "b"]),
    "unified": ("--- a/x\t2026-01-01\n+++ b/x\n@@ -1 +1 @@", ["a/x", "x", "b/x"]),
    "unified, new": ("--- /dev/null\n+++ b/infra/x", ["b/infra/x", "infra/x"]),
    "git": ("diff --git a/x b/y\nrename from x\nrename to y", ["a/x", "x", "b/y", "y"]),
    "git, quoted": ('+++ "b/caf\\303\\251"', ["b/caf\u00e9", "caf\u00e9"]),
    "index of Subversion": ("Index: a", ["a"]),
    "context diff": ("*** a/x\t2026", ["a/x", "x"]),
    "twice": ("*** Add File: a\n*** Add File: a", ["a"]),
    "an added line is none": ("+*** Add File: a\n-*** Add File: b", []),
    "no patch": ("a = 1 - 2\n* list\n", []),
}


@pytest.mark.parametrize(("text", "expected"), HEADERS.values(), ids=HEADERS.keys())
def test_every_line_that_some_reader_takes_for_a_header_counts(text: str, expected: list[str]) -> None:
    assert patched(text) == expected


@given(st.text(), st.text('*+- \tAddUpFile:a/"\\0\n'))
def test_no_text_makes_it_raise_or_hides_a_header(before: str, after: str) -> None:
    assert "infra/x" in patched(f"{before}\n*** Update File: infra/x\n{after}")
