"""Show calls of tools: edits as diffs whose lines are coloured, everything else as indented JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from markupsafe import Markup

from extproc.approval.change import text_of
from extproc.console.showing import shapes
from extproc.console.showing.marks import Marker
from extproc.console.templates import visible

_HUNK: Final = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_SIGNS: Final = {"+": "add", "-": "del"}


def told(name: str, arguments: Any) -> str:  # noqa: ANN401 - JSON
    """Return what a call would do, as text of several lines, without its name; it is not `visible` yet."""
    if not isinstance(arguments, str | dict):
        return shapes.indented(arguments)
    if _is_deep(arguments):
        return arguments if isinstance(arguments, str) else shapes.indented(arguments)
    return text_of(json.dumps({"name": name, "arguments": arguments})).partition("\n")[2]


def _is_deep(arguments: str | dict[str, Any]) -> bool:
    try:
        return shapes.is_deep(json.loads(arguments) if isinstance(arguments, str) else arguments)
    except RecursionError:
        return True
    except ValueError:
        return False


def shown(text: str, marker: Marker) -> Markup:
    """Return what `told` or `extproc.approval.change.text_of` says: each line of a diff by what it does."""
    # Before lines are cut off at returns: a return at the end of a line is a change too.
    lines = [visible(line) for line in text.split("\n")]
    names = list(_names(lines))
    if not {"add", "del", "hunk"}.intersection(names):
        body = "\n".join(lines)
        return Markup(f'<pre class="wrap">{marker.markup(body)}</pre>')  # noqa: S704 - escaped
    spans = (f'<span class="{name}">{marker.markup(line)}\n</span>' for line, name in zip(lines, names, strict=True))
    return Markup(f'<pre class="diff">{"".join(spans)}</pre>')  # noqa: S704 - escaped


def _names(lines: list[str]) -> Iterator[str]:
    """Yield what each line is. In a hunk, which says how long it is, only the first sign counts, as in a patch."""
    out = into = 0
    in_patch = False
    for line in lines:
        sign = line[:1]
        if out > 0 or into > 0:
            out -= sign in {"-", " "}
            into -= sign in {"+", " "}
            yield _SIGNS.get(sign, "same")
        elif hunk := _HUNK.fullmatch(line):
            out, into = (int(count) if count else 1 for count in hunk.groups())
            yield "hunk"
        elif line.startswith(("*** ", "@@")):
            in_patch = line != "*** End Patch" and (in_patch or line == "*** Begin Patch")
            yield "hunk"
        elif in_patch:
            yield _SIGNS.get(sign, "same")
        else:
            yield "hunk" if line.startswith(("--- a/", "--- /dev/null", "+++ b/")) else "same"
