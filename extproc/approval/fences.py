"""Find fenced code blocks that name a file, which editors offer to apply to it, in a text or as it streams. Pure.

A block names a file in its info string, in a comment (`// filepath: x`), in the headers of a diff or patch, or in the
line before it. Source of what a fence is: CommonMark 0.31.2, section 4.5, but with any indentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from extproc.approval.patch import patched
from extproc.approval.touch import Act, Touch

TOOL: Final = "code block"

# Of a longer line only its beginning is read; a fence or a comment that is longer may name any file.
_MAX_LINE: Final = 5000

_CONTAINER: Final = r"[ \t]*(?:(?:>|[-*+]|[0-9]{1,9}[.)])[ \t]*)*"
_FENCE: Final = re.compile(rf"{_CONTAINER}(?P<fence>`{{3,}}(?!.*`)|~{{3,}})(?P<info>.*)", re.DOTALL)
# The beginning of a line that may become a fence.
_MAYBE_FENCE: Final = re.compile(rf"{_CONTAINER}(?:`{{1,2}}|~{{1,2}}|`{{3,}}[^`]*|~{{3,}}.*)", re.DOTALL)

_COMMENT: Final = r"[ \t]*+(?://+|/\*+|#+|--+|;+|%+|<!--|\{/\*|\(\*|@?rem\b|'|\"\"\")?[ \t]*"
_COMMENT_ENDS: Final = ("*/}", "*/", "-->", "*)", '"""')
_FILEPATH: Final = re.compile(rf"{_COMMENT}file[ _-]?path[ \t]*[:=][ \t]*(?P<path>.+)", re.IGNORECASE)
_FIRST: Final = re.compile(rf"{_COMMENT}(?:file(?:name)?|path)[ \t]*[:=][ \t]*(?P<path>.+)", re.IGNORECASE)
# A comment that begins with a path.
_BARE: Final = re.compile(r"[ \t]*+(?://+|/\*+|#+|--+|;+|%+|<!--)[ \t]*(?P<path>[^\s*]+)")
_QUOTED: Final = re.compile(r"[ \t]*+(?:>[ \t]*)*")
# Lines that may stand before the one that names the file.
_PREAMBLE: Final = re.compile(r"[ \t]*(?:\Z|#!|<\?|<!doctype|diff |index |(?:new|old|deleted) )", re.IGNORECASE)
_DIFF: Final = re.compile(r"[ \t]*(?:---|\+\+\+|\*\*\*|@@|diff |index |(?:rename|copy) (?:from|to) )", re.IGNORECASE)

_INFO_NAMED: Final = re.compile(
    r"(?:title|file|filename|file_?path|path|name)[ \t]*=[ \t]*(?:\"(?P<a>[^\"]*)\"?|'(?P<b>[^']*)'?|(?P<c>[^\s,}]+))",
    re.IGNORECASE,
)
# The line before a block: nothing but a path, as a heading, in bold, in backticks or as a link.
_LEAD: Final = re.compile(
    r"[\s#>*_-]*+(?:[0-9]+[.)]\s+)?(?:file(?:name| ?path)?:[ \t*_]*+)?[`*_\[\"(]*+(?P<path>[^\s`*\[\]\"()]+)"
    r"(?:`?\]\((?P<link>[^)\s]+)\))?[`*_\]\"):]*+\s*",
    re.IGNORECASE,
)


def touches_of_text(text: str) -> list[Touch]:
    """Return an edit of every file that a code block of a text names, each once."""
    watch = FenceWatch()
    watch.feed(text)
    return watch.end()


class FenceWatch:
    """Watch a text as it streams for code blocks that name a file.

    `is_privileged` says which files matter; without it, all do. Whoever passes the text on keeps back what `feed` got
    from the piece on for which it returned True, until it returns False. After every False, before anything goes on,
    `take` says what was named meanwhile: a block may begin and end in one piece. A file that is named after the first
    line of its block is seen when it comes; what came before it is gone then, but the block is not whole yet.
    """

    __slots__ = ("_before", "_fence", "_found", "_head", "_is_held", "_is_privileged", "_line", "_named", "_skips_lf")

    def __init__(self, is_privileged: Callable[[Touch], bool] = lambda _: True) -> None:
        self._is_privileged = is_privileged
        self._line = ""  # the line that is not over
        self._before = ""  # the last line outside of a block that is not blank
        self._fence = ""  # the fence of the block that is open
        self._head = False  # the first line of the block is still to come
        self._named = False  # the block that is open names a privileged file
        self._skips_lf = False
        self._found: dict[Touch, None] = {}
        self._is_held = False

    def feed(self, text: str) -> bool:
        """Read on, and say whether a block has begun that may name a privileged file, or names one and is not over."""
        if "\n" not in text and "\r" not in text:
            self._extend(text)
        else:
            if self._skips_lf and text.startswith("\n"):
                text = text[1:]
            self._skips_lf = text.endswith("\r")
            *lines, rest = re.split("\r\n|\r|\n", text)
            for line in lines:
                self._extend(line)
                self._end_line()
            self._extend(rest)
        self._is_held = self._named or (self._head if self._fence else self._may_open()) or self._may_name()
        return self._is_held

    @property
    def in_block(self) -> bool:
        """Say whether a block is open."""
        return bool(self._fence)

    def take(self) -> list[Touch]:
        """Return the privileged files named since the last time, each once."""
        if not self._found:
            return []
        found = list(self._found)
        self._found.clear()
        return found

    def end(self) -> list[Touch]:
        """Return the same at the end of the text, which ends every block."""
        self._end_line()
        self._fence, self._head, self._named = "", False, False
        return self.take()

    def _extend(self, text: str) -> None:
        # What comes after is looked for only in the shape of the line, which it cannot change.
        self._line += text[: _MAX_LINE - len(self._line)]

    def _may_open(self) -> bool:
        return _MAYBE_FENCE.fullmatch(self._line) is not None

    def _may_name(self) -> bool:
        line = _QUOTED.sub("", self._line, count=1) if self._fence else ""
        return _FILEPATH.match(line) is not None or _is_header(line)

    def _end_line(self) -> None:
        line, self._line = self._line, ""
        if not self._fence:
            self._outside(line)
        elif self._closes(line):
            self._fence, self._head, self._named = "", False, False
        else:
            self._inside(line)

    def _outside(self, line: str) -> None:
        if opened := _FENCE.fullmatch(line):
            self._fence, self._head = opened["fence"], True
            self._note(_in_info(opened["info"]))
            self._note(_in_lead(self._before))
            self._note([""] if len(line) == _MAX_LINE else [])
            self._before = ""
        elif line.strip():
            self._before = line

    def _inside(self, quoted: str) -> None:
        line = _QUOTED.sub("", quoted, count=1)
        self._note(_in_line(line, is_first=self._head))
        # Readers that know no longer fences take this for the beginning of a block.
        if nested := _FENCE.fullmatch(line):
            self._note(_in_info(nested["info"]))
        if not _PREAMBLE.match(line):
            self._head = False

    def _closes(self, line: str) -> bool:
        closing = _FENCE.fullmatch(line)
        return closing is not None and closing["fence"].startswith(self._fence) and not closing["info"].strip()

    def _note(self, paths: list[str]) -> None:
        for path in paths:
            touch = Touch(Act.EDIT, TOOL, path.encode("utf-8", "replace").decode() or None)
            if self._is_privileged(touch):
                self._found[touch] = None
                self._named = True


def _is_header(line: str) -> bool:
    return _DIFF.match(line) is not None


def _in_line(line: str, *, is_first: bool) -> list[str]:
    found = list(patched(line)) if _is_header(line) else []
    for pattern in (_FILEPATH, _FIRST) if is_first else (_FILEPATH,):
        if named := pattern.match(line):
            # A line that was cut may end in another path.
            found.append("" if len(line) == _MAX_LINE else _without_end(named["path"]))
    if is_first and not _PREAMBLE.match(line) and (bare := _BARE.match(line)) and _is_path_like(bare["path"]):
        found.append(_without_end(bare["path"]))
    return found


def _without_end(written: str) -> str:
    plain = written.rstrip()
    ending = next((one for one in _COMMENT_ENDS if plain.endswith(one)), "")
    return plain.removesuffix(ending).strip("\"'` \t")


def _is_path_like(word: str) -> bool:
    return re.search(r"[/\\]|\w\.\w|^\.\w", word) is not None


def _in_info(info: str) -> list[str]:
    return list(dict.fromkeys(_words_of_info(info)))


def _words_of_info(info: str) -> Iterator[str]:
    for named in _INFO_NAMED.finditer(info):
        yield next((text for text in named.groups() if text is not None), "")
    language, _, rest = info.strip().partition(" ")
    # `lang:path`, and `start:end:path`.
    for word in (language, *language.split(":"), *rest.split(), rest.strip()):
        plain = word.strip("\"'`{}()[],")
        if _is_path_like(plain) and "=" not in plain:
            yield plain
    if ":" in language:
        # A name like Makefile has neither a slash nor a dot.
        yield language.partition(":")[2]


def _in_lead(line: str) -> list[str]:
    named = _LEAD.fullmatch(line) if len(line) < 500 else None
    return (
        []
        if named is None
        else [path for path in (named["path"].rstrip(":,"), named["link"]) if path and _is_path_like(path)]
    )
