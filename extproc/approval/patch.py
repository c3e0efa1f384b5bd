"""Say which files a patch names: apply_patch's own format, and the unified and git diffs that other readers take. Pure.

A patch may be read by anybody, so every line that some reader would take for a header counts, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# All that `str.splitlines` of Python and readers in JavaScript end a line with.
_LINE_END: Final = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# JavaScript's `trim` takes the byte order mark for white space.
_BLANK: Final = "[\\s\ufeff]*"
_VERB: Final = "add|create|update|delete|remove|rename|move|modify|replace"
_APPLY: Final = re.compile(
    rf"{_BLANK}\*\*\*{_BLANK}(?:(?:{_VERB}){_BLANK}file(?:{_BLANK}to)?|(?:move|rename){_BLANK}to|file){_BLANK}:"
    r"(?P<path>.*)",
    re.IGNORECASE,
)
_DIFF: Final = re.compile(
    rf"{_BLANK}(?:---|\+\+\+|\*\*\*|index:|(?:rename|copy){_BLANK}(?:from|to))[ \t]+"
    r"(?!(?:begin|end) patch|end of file)(?P<path>[^ \t*].*)",
    re.IGNORECASE,
)
_GIT: Final = re.compile(rf"{_BLANK}diff --git (?P<old>\"?a/.*?) (?P<new>\"?b/.*)", re.IGNORECASE)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def patched(text: str) -> list[str]:
    """Return the paths that a patch adds, changes, removes or moves to, as written, in their order, each once.

    A header without a path gives an empty one, which stands for any file. Of a diff's `a/x` there is `x`, too.
    """
    return list(dict.fromkeys(path for line in _LINE_END.split(text) for path in _in_line(line)))


def _in_line(line: str) -> Iterator[str]:
    if found := _APPLY.fullmatch(line):
        yield found["path"].strip("\ufeff").strip()
    elif found := _GIT.fullmatch(line):
        yield from _of_diff(found["old"])
        yield from _of_diff(found["new"])
    elif found := _DIFF.fullmatch(line):
        yield from _of_diff(found["path"])


def _of_diff(written: str) -> Iterator[str]:
    # A time may follow after a tab; git quotes what is no ASCII, byte by byte.
    path = written.split("\t", 1)[0].strip()
    if path.startswith('"') and path.endswith('"') and len(path) > 1:
        octets = _OCTAL.sub(lambda octal: chr(int(octal[1], 8) & 0xFF), path[1:-1])
        path = octets.encode("latin-1", "replace").decode("utf-8", "replace")
    if path == "/dev/null":
        return
    yield path
    # `patch -p1` and git drop the first directory, whatever its name is.
    if re.match(r"[^/\\]+/.", path):
        yield path.split("/", 1)[1]
