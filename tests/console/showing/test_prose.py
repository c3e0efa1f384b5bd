from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.console.showing.code import Highlighter
from extproc.console.showing.marks import Marker
from extproc.console.showing.prose import prose, quoted
from tests.console.rendered import Read


def html(text: str) -> str:
    return str(prose(text, Marker(iter(())), Highlighter()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a\nb\n\nc", "<p>a\nb</p><p>c</p>"),
        ("## Head\ntext", '<p class="heading">Head</p><p>text</p>'),
        ("#hash", "<p>#hash</p>"),
        ("a `b` **c** *d*", "<p>a <code>b</code> <strong>c</strong> *d*</p>"),
        ("```\na\n```", '<pre class="code"><code>a</code></pre>'),
        (
            "```py x\n1\n```\nend",
            '<p class="language">py x</p><pre class="code"><code><span class="m">1</span></code></pre><p>end</p>',
        ),
        ("  ~~~~\n~~~\n~~~~~", '<pre class="code"><code>~~~</code></pre>'),
        ("```\nnot closed", '<pre class="code"><code>not closed</code></pre>'),
        ("```a` b", "<p>``<code>a</code> b</p>"),
        ("[x](javascript:alert(1)) <b>", "<p>[x](javascript:alert(1)) &lt;b&gt;</p>"),
        ("![x](http://a.example/)", "<p>![x](http://a.example/)</p>"),
    ],
)
def test_text_becomes_paragraphs_headings_and_code(text: str, expected: str) -> None:
    assert html(text) == expected


@given(
    st.lists(
        st.sampled_from(["```", "~~~", "`", "**", "# ", "\n", "\n\n", " ", "[MASKED:a]", "<i>", "py", "'", '"'])
    ).map("".join)
)
def test_no_letter_is_lost_and_nothing_is_markup(text: str) -> None:
    read = Read(html(text))
    assert {name for name, _ in read.elements} <= {"p", "pre", "code", "strong", "mark", "span"}
    signs = str.maketrans("", "", "`~*# \n")
    assert read.text.translate(signs) == text.translate(signs)
    assert len(read.all("mark")) == text.count("[MASKED:a]")


def test_results_are_escaped() -> None:
    assert quoted("<a>", Marker(iter(()))) == '<pre class="wrap">&lt;a&gt;</pre>'
