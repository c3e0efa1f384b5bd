from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.globs import path_regex, text_regex


def matches(regex: str, text: str) -> bool:
    return re.fullmatch(regex, text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("glob", "text", "expected"),
    [
        ("acme-*", "acme-token", True),
        ("acme-*", "acme", False),
        ("*", "", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a.c", "abc", False),
        ("a?[x]", "a?[x]", True),
        ("a*", "a\nb", True),
        ("Acme", "acme", False),
    ],
)
def test_text_globs(glob: str, text: str, *, expected: bool) -> None:
    assert matches(text_regex(glob), text) is expected


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/**/a", "/x/y/a", True),
        ("/**/a/*.py", "/x/a/b.py", True),
        ("/**/a/*.py", "/x/ba/b.py", False),
        ("/a/**/b", "/a/b", True),
        ("/a b/%/?#", "/a b/%/?#", True),
        ("/", "/", True),
    ],
)
def test_path_globs(glob: str, path: str, *, expected: bool) -> None:
    assert matches(path_regex(glob), path) is expected


@pytest.mark.parametrize("glob", ["a", "", "//", "/a//b", "/a**", "/**a", "/a/***"])
def test_a_malformed_path_glob_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match=r"begins with /|stand alone"):
        path_regex(glob)


@given(st.text("ab*"), st.text("ab\n"))
def test_text_globs_agree_with_a_naive_matcher(glob: str, text: str) -> None:
    def naive(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(naive(glob[1:], text[at:]) for at in range(len(text) + 1))
        return text[:1] == glob[0] and naive(glob[1:], text[1:])

    short = re.sub(r"\*+", "*", glob)[:8]
    assert matches(text_regex(short), text[:8]) is naive(short, text[:8])


@pytest.mark.parametrize("regex", [text_regex("*a" * 30 + "*b"), path_regex("/**/a" * 30 + "/b")])
def test_no_text_makes_matching_slow(regex: str) -> None:
    compiled = re.compile(regex, re.DOTALL)
    start = time.perf_counter()
    assert compiled.fullmatch("/a" * 5000) is None
    assert time.perf_counter() - start < 1
