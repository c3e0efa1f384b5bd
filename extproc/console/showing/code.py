"""Colour code: comments, strings, numbers, keywords and names that are called or defined. Pure.

No lexer of pygments: that of C takes a quarter of a minute for 16 KiB of line ends, and what is shown here is a
stranger's. Each pattern below reads on from where it began, so a text takes time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from markupsafe import Markup

from extproc.console.showing.marks import PLACEHOLDER, Marker

MAX_BLOCK_CHARS: Final = 64 * 1024
"""Longest block that is coloured."""

MAX_PAGE_CHARS: Final = 256 * 1024
"""How much code of one page is coloured; a megabyte would take about half a second."""

# A comment or a text that is not closed goes on to the end, a string to the end of its line: all match once begun.
_HASH: Final = r"(?P<c>#[^\n]*)"
_SLASHES: Final = r"(?P<c>//[^\n]*|/\*[\s\S]*?(?:\*/|\Z))"
_DASHES: Final = r"(?P<c>--[^\n]*|/\*[\s\S]*?(?:\*/|\Z))"
_QUOTES: Final = r"\"(?:[^\"\\\n]|\\[^\n])*\"?"
_SINGLE: Final = r"'(?:[^'\\\n]|\\[^\n])*'?"
_TICKS: Final = r"`(?:[^`\\]|\\[\s\S])*`?"
_LONG: Final = r"\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)"
_NUMBER: Final = r"(?P<m>\b[0-9][0-9A-Za-z_.]*)"
_NAME: Final = r"(?P<word>[A-Za-z_$][0-9A-Za-z_$]*)(?P<call>\()?"

_C: Final = f"{_SLASHES}|(?P<s>{_QUOTES}|{_SINGLE}|{_TICKS})|{_NUMBER}|{_NAME}"
# A single quote of Rust may be a lifetime, which has no end.
_RUST: Final = f"{_SLASHES}|(?P<s>{_QUOTES})|{_NUMBER}|{_NAME}"
_PYTHON: Final = f"{_HASH}|(?P<s>{_LONG}|{_QUOTES}|{_SINGLE})|{_NUMBER}|{_NAME}"
_SHELL: Final = f"{_HASH}|(?P<s>{_QUOTES}|{_SINGLE})|{_NUMBER}|{_NAME}"
_HCL: Final = rf"(?P<c>(?:#|//)[^\n]*|/\*[\s\S]*?(?:\*/|\Z))|(?P<s>{_QUOTES})|{_NUMBER}|{_NAME}"
_YAML: Final = (
    rf"(?m:^)(?P<f>[ \t]*(?:- +)*[A-Za-z_][\w./-]*(?=:))|{_HASH}|(?P<s>{_QUOTES}|{_SINGLE})|{_NUMBER}|{_NAME}"
)
_SQL: Final = f"{_DASHES}|(?P<s>{_QUOTES}|{_SINGLE})|{_NUMBER}|{_NAME}"
_JSON: Final = f"(?P<f>{_QUOTES}(?=:))|(?P<s>{_QUOTES})|{_NUMBER}|{_NAME}"
_HTML: Final = rf"(?P<c><!--[\s\S]*?(?:-->|\Z))|(?P<k></?[A-Za-z][\w:.-]*|/?>)|(?P<s>{_QUOTES})"
_DIFF: Final = r"(?m:^)(?:(?P<c>@@[^\n]*)|(?P<add>\+[^\n]*)|(?P<del>-[^\n]*))"

_OF_C: Final = (
    "abstract as async await bool boolean break byte case catch char class const constexpr continue def default "
    "defer delete do double else enum export extends extern false final finally float fn for foreach from fun "
    "func function go goto if impl implements import in int interface internal is let long loop map match mod "
    "module mut namespace new nil null nullptr object of operator override package private protected pub public "
    "range readonly return self short signed static string struct super switch template this throw throws trait "
    "true try type typedef typeof undefined union unsafe unsigned use using val var virtual void volatile when "
    "where while with yield"
)
_OF_PYTHON: Final = (
    "False None True and as assert async await begin break case class continue def del do elif else elsif end "
    "ensure except finally for from global if import in is lambda match module nil nonlocal not or pass raise "
    "require rescue return self then true false try unless until when while with yield"
)
_OF_SHELL: Final = (
    "case do done echo elif else esac exit export fi for function if in local return set then until while"
)
_OF_SQL: Final = (
    "all alter and as asc begin between by case check column commit constraint create default delete desc "
    "distinct drop else end exists foreign from full group having if in index inner insert into is join key left "
    "like limit not null offset on or order outer primary references right rollback select set table then union "
    "unique update values view when where with"
)
_OF_DATA: Final = (
    "data false locals module null on output provider resource terraform true variable yes no for_each dynamic "
    "for in if"
)

# Patterns and keywords, and by which names a fence asks for them.
_FAMILIES: Final = (
    (_C, _OF_C, "c c++ cpp cs csharp css go golang java javascript js jsx kotlin kt php scss swift ts tsx typescript"),
    (_RUST, _OF_C, "rust rs"),
    (_PYTHON, _OF_PYTHON, "py python python3 ruby rb"),
    (_SHELL, _OF_SHELL, "bash console dockerfile makefile sh shell zsh"),
    (_HCL, _OF_DATA, "hcl terraform tf"),
    (_YAML, _OF_DATA, "ini properties toml yaml yml"),
    (_SQL, _OF_SQL, "sql"),
    (_JSON, _OF_DATA, "json json5 jsonc"),
    (_HTML, "", "html svg vue xml"),
    (_DIFF, "", "diff patch"),
)
_LANGUAGES: Final = {
    name: (re.compile(pattern), frozenset(words.split()))
    for pattern, words, names in _FAMILIES
    for name in names.split()
}

# Where a part of the code begins and ends, and its class.
_Run = tuple[int, int, str]


class Highlighter:
    """Colour the code of one page."""

    def __init__(self) -> None:
        self._left = MAX_PAGE_CHARS

    def markup(self, text: str, language: str, marker: Marker) -> Markup:
        """Return code with its parts in elements, in the same text; without them where the language is not known."""
        known = _LANGUAGES.get(language.lower())
        if known is None or len(text) > min(MAX_BLOCK_CHARS, self._left):
            return marker.markup(text)
        self._left -= len(text)
        return Markup("".join(_pieces(text, _runs(text, *known), marker)))  # noqa: S704 - of escaped parts


def _runs(text: str, pattern: re.Pattern[str], words: frozenset[str]) -> Iterator[_Run]:
    """Yield what a text consists of, without a gap."""
    end = 0
    for found in pattern.finditer(text):
        name = found.lastgroup or ""
        start, last = found.span()
        if name in {"word", "call"}:
            start, last = found.span("word")
            word = found["word"]
            is_keyword = word in words or word.lower() in words
            name = "k" if is_keyword else "f" if name == "call" else ""
        if name:
            if start > end:
                yield end, start, ""
            yield start, last, name
            end = last
    yield end, len(text), ""


def _pieces(text: str, runs: Iterator[_Run], marker: Marker) -> Iterator[str]:
    """Yield the runs, cut where a placeholder begins and ends: it stays whole, whatever is around it or in it."""
    held = [found.span() for found in PLACEHOLDER.finditer(text)]
    done = next_held = 0
    for start, end, name in runs:
        at = max(start, done)
        while next_held < len(held) and held[next_held][0] < end:
            first, done = held[next_held]
            next_held += 1
            yield _span(text[at:first], name)
            yield marker.mark(text[first:done])
            at = done
        yield _span(text[at:end], name)


def _span(text: str, name: str) -> str:
    if not text:
        return ""
    return f'<span class="{name}">{escape(text)}</span>' if name else escape(text)
