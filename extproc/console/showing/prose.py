"""Show what models and people write: paragraphs, headings, and code between fences. Pure.

It looks like Markdown, and is none: nothing becomes a link or an image, and only the signs of what is shown here go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from markupsafe import Markup

from extproc.console.showing.code import Highlighter
from extproc.console.showing.marks import Marker

# A fence as CommonMark 0.31, section 4.5, has it, but at any depth: in lists it is indented.
_FENCE: Final = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*)")
_HEADING: Final = re.compile(r"#{1,6} +(?=\S)")
_INLINE: Final = re.compile(r"`([^`\n]+)`|\*\*([^*\n]+)\*\*")


def prose(text: str, marker: Marker, highlighter: Highlighter) -> Markup:
    """Return a text as paragraphs and blocks of code; it must have gone through `visible`."""
    return Markup("".join(_blocks(text.split("\n"), marker, highlighter)))  # noqa: S704 - of escaped parts


def _blocks(lines: list[str], marker: Marker, highlighter: Highlighter) -> Iterator[str]:
    paragraph: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        fence = _FENCE.fullmatch(line)
        if fence is None and line.strip() and not _HEADING.match(line):
            paragraph.append(line)
            continue
        yield from _paragraph(paragraph, marker)
        paragraph = []
        if fence is not None:
            end = _end_of(lines, at, fence[1])
            yield from _code(lines[at:end], fence[2], marker, highlighter)
            at = end + 1
        elif line.strip():
            yield f'<p class="heading">{_inline(_HEADING.sub("", line, count=1), marker)}</p>'
    yield from _paragraph(paragraph, marker)


def _end_of(lines: list[str], start: int, fence: str) -> int:
    """Return the line of the fence that closes; a block that is not closed goes on to the end."""
    for at in range(start, len(lines)):
        line = lines[at].strip()
        if len(line) >= len(fence) and not line.strip(fence[0]):
            return at
    return len(lines)


def _code(lines: list[str], info: str, marker: Marker, highlighter: Highlighter) -> Iterator[str]:
    if info:
        yield f'<p class="language">{marker.markup(info)}</p>'
    language = info.split(maxsplit=1)[0] if info.strip() else ""
    yield f'<pre class="code"><code>{highlighter.markup(chr(10).join(lines), language, marker)}</code></pre>'


def _paragraph(lines: list[str], marker: Marker) -> Iterator[str]:
    if lines:
        yield f"<p>{_inline(chr(10).join(lines), marker)}</p>"


def _inline(text: str, marker: Marker) -> str:
    parts: list[str] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(marker.markup(text[end : found.start()]))
        element = "code" if found[1] else "strong"
        parts.append(f"<{element}>{marker.markup(found[1] or found[2])}</{element}>")
        end = found.end()
    return "".join([*parts, marker.markup(text[end:])])


def quoted(text: str, marker: Marker) -> Markup:
    """Return a text as it is, its blanks and line ends kept."""
    return Markup(f'<pre class="wrap">{marker.markup(text)}</pre>')  # noqa: S704 - escaped
