from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import extproc.console
from extproc.console.showing.code import MAX_BLOCK_CHARS, MAX_PAGE_CHARS, Highlighter
from extproc.console.showing.marks import Marker
from tests.console.rendered import Read

STATIC = Path(extproc.console.__file__).parent / "static"
LANGUAGES = ["js", "rust", "python", "sh", "tf", "yaml", "sql", "json", "html", "diff"]


def markup(text: str, language: str) -> str:
    return str(Highlighter().markup(text, language, Marker(iter(()))))


def parts(text: str, language: str) -> list[tuple[str, str]]:
    return re.findall(r'<span class="(\w+)">([^<]*)</span>', markup(text, language))


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "def f(x):  # why", [("k", "def"), ("f", "f"), ("c", "# why")]),
        ("python", '"""a\nb""" + 1', [("s", "&quot;&quot;&quot;a\nb&quot;&quot;&quot;"), ("m", "1")]),
        ("TypeScript", "const a = `x${b}` // c", [("k", "const"), ("s", "`x${b}`"), ("c", "// c")]),
        ("rust", "fn f<'a>() {}", [("k", "fn")]),
        ("sql", "SELECT 'a' -- b", [("k", "SELECT"), ("s", "&#x27;a&#x27;"), ("c", "-- b")]),
        (
            "json",
            '{"a": "b", "c": null}',
            [("f", "&quot;a&quot;"), ("s", "&quot;b&quot;"), ("f", "&quot;c&quot;"), ("k", "null")],
        ),
        ("yaml", "- name: x # y", [("f", "- name"), ("c", "# y")]),
        ("tf", 'resource "a" {', [("k", "resource"), ("s", "&quot;a&quot;")]),
        ("html", "<b>", [("k", "&lt;b"), ("k", "&gt;")]),
        ("diff", "@@ -1 +1 @@\n-a\n+b\n c", [("c", "@@ -1 +1 @@"), ("del", "-a"), ("add", "+b")]),
        ("brainfuck", "+-<>", []),
        ("", "def f():", []),
    ],
)
def test_parts_of_code_have_classes(language: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert parts(text, language) == expected


def test_a_placeholder_stays_whole_in_a_string_and_across_what_would_be_parts() -> None:
    html = markup('x = "a [MASKED:if-1.2] b" + [MASKED:for]', "python")
    assert html.count("<mark ") == 2
    assert ">[MASKED:if-1.2]</mark>" in html
    assert ">[MASKED:for]</mark>" in html
    assert '<span class="s">&quot;a </span><mark' in html
    assert '</mark><span class="s"> b&quot;</span>' in html


@given(
    st.lists(st.sampled_from([*"\"'`\\\n\r\t #/*-<>!+@:({a1$", "[MASKED:a]", "def", "</script>", "é", "\x00"])).map(
        "".join
    ),
    st.sampled_from(LANGUAGES),
)
def test_colouring_keeps_the_text_and_its_placeholders(text: str, language: str) -> None:
    html = markup(text, language)
    read = Read(html)
    assert read.text == text
    assert len(read.all("mark")) == text.count("[MASKED:a]")
    assert {name for name, _ in read.elements} <= {"span", "mark"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_takes_long(language: str) -> None:
    began = time.process_time()
    for seed in ("\n", '"', '"""', "/*", "`", "\\", "- ", "a", "<!--", "'", "a(", "1", "[MASKED:a]"):
        markup(seed * (MAX_BLOCK_CHARS // len(seed)), language)
    # Each is a matter of some hundredths of a second; what grows with the square would take minutes.
    assert time.process_time() - began < 20


def test_only_so_much_is_coloured_on_a_page_and_in_a_block() -> None:
    highlighter = Highlighter()
    block = "if " * (MAX_BLOCK_CHARS // 3)
    coloured = ["span" in highlighter.markup(block, "python", Marker(iter(()))) for _ in range(6)]
    assert coloured == [True] * (MAX_PAGE_CHARS // MAX_BLOCK_CHARS) + [False] * 2
    assert "span" not in markup(block + "xxxx", "python")


# --- the style sheet -------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def blocks(css: str) -> dict[str, dict[str, str]]:
    found = re.findall(r"(:root[^{]*)\{([^{}]*--[^{}]*)\}", css)
    return {name.strip(): dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", body)) for name, body in found}


def test_every_class_has_a_colour_that_can_be_read_in_both_themes() -> None:
    code, console = (STATIC / "code.css").read_text(), (STATIC / "console.css").read_text()
    for name in ("c", "k", "s", "m", "f", "add", "del"):
        assert f".code .{name} {{" in code
    colours, grounds = blocks(code), blocks(console)
    assert colours.keys() == grounds.keys()
    assert len(colours) == 3
    for theme, told in colours.items():
        assert {name: one for name, one in told.items() if contrast(one, grounds[theme]["--code"]) < 4.5} == {}
