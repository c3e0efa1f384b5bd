"""Turn globs into regular expressions that stay fast for any text; `*` is the only special character.

The expressions are meant for `fullmatch` with `re.DOTALL`.
"""

from __future__ import annotations

import re

IN_SEGMENT = "[^/]"


# Every `*` but the last is an atomic group that stops at the first match of the text after it: the leftmost match is
# always good enough for a glob, and without backtracking a long text cannot make matching slow.
def text_regex(glob: str, any_char: str = ".") -> str:
    """Return the expression of `glob`, where `*` is any number of `any_char`."""
    first, *rest = (re.escape(piece) for piece in glob.split("*"))
    if not rest:
        return first
    return first + "".join(f"(?>{any_char}*?{piece})" for piece in rest[:-1]) + f"{any_char}*{rest[-1]}"


def path_regex(glob: str) -> str:
    """Return the expression of a path, where `*` stays in one segment and `**` is any number of whole segments.

    A slash at the end is ignored. Raises ValueError where the glob is malformed; the text says how.
    """
    if not glob.startswith("/") or "//" in glob:
        raise ValueError("expected a path: it begins with / and has no //")
    if re.search(r"[^/]\*\*|\*\*[^/]", glob):
        raise ValueError("** must stand alone between slashes, as in /docs/**")
    head, *blocks = re.split(r"/\*\*(?=/|\Z)", glob.removesuffix("/") or "/")
    regex = text_regex(head, IN_SEGMENT)
    if not blocks:
        return regex
    for block in blocks[:-1]:
        regex += rf"(?>(?:/[^/]*+)*?{text_regex(block, IN_SEGMENT)}(?=/|\Z))"
    return regex + (rf"(?:/[^/]*+)*{text_regex(blocks[-1], IN_SEGMENT)}" if blocks[-1] else "(?:/.*)?")
