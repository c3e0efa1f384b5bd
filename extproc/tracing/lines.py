"""The lines of code that an answer proposes, and their fingerprints, by which `extproc trace` finds it. Pure.

Code is what stands in fenced blocks, what tools are told to write, the lines that patches add, and text without any
fence: completions and inline edits answer with nothing but code. A line that an edit takes over unchanged (it stands in
the edit's old text, too) is not proposed by it.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from extproc.endpoint import EndpointKind
from extproc.json_body import decoded
from extproc.tool_paths import MAX_DEPTH

MAX_FINGERPRINTS: Final = 2_000
"""Fingerprints of one exchange: 22 KB of index, and 2 ms of the thread that records. Longer answers are traced by
their first lines."""

MAX_LINES: Final = 10_000
"""Lines read of one answer, trivial ones and repetitions included."""

MIN_WORD_BYTES: Final = 6
"""A line with fewer letters and digits says nothing of where it came from: `}`, `else:`, `i += 1`."""

_MAX_KEYWORD: Final = 8
"""Nor does a lone word of up to so many: `return`, `continue`, `finally {`."""

_PURPOSE: Final = b"extproc line v1"
_DIGEST_BYTES: Final = 8
_CODE_CHARS: Final = 11  # 8 bytes in base64 without padding

# Line ends stay. Letters beyond ASCII count by their bytes, as two or three.
_NO_WORD: Final = bytes(code for code in range(128) if not (chr(code).isalnum() or chr(code) in "_\n"))

# Those whose answers are a model's.
_SUGGESTING: Final = frozenset(
    {EndpointKind.CHAT, EndpointKind.COMPLETIONS, EndpointKind.RESPONSES, EndpointKind.MESSAGES}
)

# As in extproc.approval.fences, whose reader looks for names of files and takes four times what all of this may.
_FENCE: Final = re.compile(
    r"(?P<container>[ \t]*(?:(?:>|[-*+]|[0-9]{1,9}[.)])[ \t]*)*)(?P<fence>`{3,}(?!.*`)|~{3,})(?P<info>.*)", re.DOTALL
)
_QUOTE: Final = re.compile(r"[ \t]*(?:>[ \t]?)+")
_DIFFS: Final = frozenset({"diff", "patch", "udiff"})
_PATCH_BEGINS: Final = re.compile(r"\s*(?:\*\*\* Begin Patch|diff --git |--- \S|@@ |<{5,} ?SEARCH)")

# Names of arguments, in lower case without `_` and `-`, of the tools listed in docs/approvals.md and the like: what is
# written, what it replaces, patches, and commands, which write by a here-document.
_TEXTS: Final = frozenset(
    {"content", "contents", "filetext", "filecontent", "filecontents", "newstr", "newstring", "newtext", "newcode"}
    | {"newsource", "newcontent", "newcontents", "inserttext", "text", "code", "codeedit", "replacement", "replace"}
)
_OLD_TEXTS: Final = frozenset({"oldstr", "oldstring", "oldtext", "oldcode", "oldsource", "oldcontent", "search"})
_PATCHES: Final = frozenset({"input", "patch", "patchtext", "patchcontent", "diff"})
_COMMANDS: Final = frozenset({"command", "commands", "cmd", "script"})

# A member with a text, in arguments that were cut: the text may not end.
_MEMBER: Final = re.compile(r'"(?P<name>\w{1,64})"\s*:\s*"(?P<text>(?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|[^u]))*+)', re.DOTALL)


def proposed_fingerprints(
    response: Mapping[str, Any], key: bytes, request: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the fingerprints of the lines that the `response` member of a closing entry proposes, each once.

    With the `request` member of the opening, answers of endpoints that are no model's propose nothing, and the first
    line of a completion has the beginning that was typed. Never raises, whatever was recorded.
    """
    return fingerprints(_proposed(response, request), key)


def proposed_lines(document: Mapping[str, Any]) -> list[str]:
    """Return the lines that the answer of a merged document proposes, as written, in their order."""
    return _proposed(document.get("response"), document.get("request"))


def fingerprints(lines: Iterable[str], key: bytes) -> list[str]:
    """Return the fingerprints of the lines that are not trivial, each once, `MAX_FINGERPRINTS` at most."""
    found = dict.fromkeys([" ".join(line.split()) for line in lines])
    kept = [line for line in _significant(found) if line is not None]
    return _encoded(_digests(kept[:MAX_FINGERPRINTS], key))


def fingerprint_each(lines: Iterable[str], key: bytes) -> list[str | None]:
    """Return the fingerprint of every line, None for trivial ones."""
    found = _significant([normalised(line) for line in lines])
    codes = iter(_encoded(_digests([line for line in found if line is not None], key)))
    return [None if line is None else next(codes) for line in found]


def normalised(line: str) -> str:
    """Return a line as it is compared: blanks around it removed, those inside it one each."""
    return " ".join(line.split())


def is_trivial(line: str) -> bool:
    """Say whether a normalised line could be anybody's."""
    return _significant([line])[0] is None


def _significant(lines: Collection[str]) -> list[bytes | None]:
    """Return normalised lines as bytes, None for trivial ones; all at once, because that is three times faster."""
    if not lines:
        return []
    # JSON may hold halves of characters, which have no UTF-8 of their own. A normalised line has no line end in it.
    joined = "\n".join(lines).encode("utf-8", "surrogatepass")
    pairs = zip(joined.split(b"\n"), joined.translate(None, _NO_WORD).split(b"\n"), strict=True)
    return [
        line if len(word) > _MAX_KEYWORD or (len(word) >= MIN_WORD_BYTES and word not in line) else None
        for line, word in pairs
    ]


def _digests(lines: Iterable[bytes], key: bytes) -> list[bytes]:
    """Return a keyed BLAKE2b (RFC 7693) of each: a bare hash of a short line could be found by trying."""
    keyed = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES, person=_PURPOSE)
    found = []
    for line in lines:
        one = keyed.copy()
        one.update(line)
        found.append(one.digest())
    return found


def _encoded(digests: list[bytes]) -> list[str]:
    """Return each digest in base64url (RFC 4648 section 5), all at once: with a ninth byte, each has 12 characters."""
    padded = b"\0".join([*digests, b""])
    text = binascii.b2a_base64(padded, newline=False).translate(_URL_SAFE).decode()
    return [text[at : at + _CODE_CHARS] for at in range(0, len(text), _CODE_CHARS + 1)]


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


# --- What an answer proposes -----------------------------------------------------------------------------------------


def _proposed(response: Any, request: Any) -> list[str]:  # noqa: ANN401 - what was recorded
    if not isinstance(response, Mapping):
        return []
    endpoint = request.get("endpoint") if isinstance(request, Mapping) else None
    if isinstance(endpoint, str) and endpoint not in _SUGGESTING:
        return []
    choices = response.get("choices")
    lines: list[str] = []
    for choice in choices if isinstance(choices, list) and choices else [response]:
        if isinstance(choice, Mapping):
            lines += _completed(choice, request) if endpoint == EndpointKind.COMPLETIONS else _of_choice(choice)
        if len(lines) >= MAX_LINES:
            break
    return lines[:MAX_LINES]


def _completed(choice: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """Return a completion with what stands around the cursor on its first and last line."""
    text = choice.get("text")
    if not isinstance(text, str) or not text:
        return []
    around = {"user": "", "suffix": ""}
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else ():
        match message:
            case {"role": "user" | "suffix" as role, "content": str() as said}:
                around[role] = said
    *before, last = (around["user"].rpartition("\n")[2] + text).split("\n")
    after = around["suffix"].partition("\n")[0]
    # Completions may repeat what follows the cursor, and editors then replace it.
    return [*before, last, *([last + after] if after.strip() else [])]


def _of_choice(choice: Mapping[str, Any]) -> list[str]:
    text, calls = choice.get("text"), choice.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    lines = _of_text(text, is_all_code=not calls) if isinstance(text, str) else []
    for call in calls:
        if isinstance(call, Mapping) and len(lines) < MAX_LINES:
            lines += _of_arguments(call.get("arguments"))
    return lines


def _of_text(text: str, *, is_all_code: bool) -> list[str]:
    lines = text.split("\n", MAX_LINES)
    if "```" not in text and "~~~" not in text:
        return lines if is_all_code else []
    found: list[str] = []
    opened, start = None, 0
    # The pattern is slow, and nearly no line has either.
    for at in [at for at, line in enumerate(lines) if "```" in line or "~~~" in line]:
        fence = _FENCE.fullmatch(lines[at])
        if fence and opened is None:
            opened, start = fence, at + 1
        elif fence and opened and fence["fence"].startswith(opened["fence"]) and not fence["info"].strip():
            found += _of_block(lines[start:at], opened)
            opened = None
    # The end of the text ends every block.
    return found if opened is None else found + _of_block(lines[start:], opened)


def _of_block(lines: list[str], opened: re.Match[str]) -> list[str]:
    if ">" in opened["container"]:
        lines = [_QUOTE.sub("", line, count=1) for line in lines]
    if opened["info"].strip().lower() in _DIFFS or (lines and _PATCH_BEGINS.match(lines[0])):
        return added_lines(lines)
    return lines


def added_lines(lines: list[str]) -> list[str]:
    """Return what a patch adds: apply_patch's own format, unified diffs, or blocks of SEARCH and REPLACE."""
    if not any(line.startswith("<<<<<") for line in lines):
        return [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++ ")]
    found: list[str] = []
    old: set[str] | None = None
    is_new = False
    for line in lines:
        if line.startswith("<<<<<"):
            old, is_new = set(), False
        elif line.startswith(">>>>>"):
            old = None
        elif old is not None and line.startswith("====="):
            is_new = True
        elif old is not None and not is_new:
            old.add(line)
        elif old is not None and line not in old:
            found.append(line)
    return found


def _of_arguments(arguments: Any) -> list[str]:  # noqa: ANN401 - what was recorded
    if not isinstance(arguments, str):
        return _written(arguments, "", frozenset(), MAX_DEPTH)
    value = decoded(arguments.encode("utf-8", "surrogatepass"))
    if value is None and arguments.lstrip().startswith(("{", "[", '"')):
        value = _salvaged(arguments)
    elif value is None or isinstance(value, str):
        # Custom tools get their patch as free text.
        return added_lines((arguments if value is None else value).split("\n", MAX_LINES))
    return _written(value, "", frozenset(), MAX_DEPTH)


def _salvaged(arguments: str) -> dict[str, list[Any]]:
    """Return the texts in arguments that were cut or are malformed, with their names."""
    found: dict[str, list[Any]] = {}
    for member in _MEMBER.finditer(arguments):
        text = decoded(b'"%b"' % member["text"].encode("utf-8", "surrogatepass"))
        found.setdefault(member["name"], []).append(text)
    return found


def _written(value: Any, name: str, old: frozenset[str], depth: int) -> list[str]:  # noqa: ANN401 - decoded JSON
    """Return the lines of code in an argument and all that it holds; lines that are in `old` were there before."""
    if isinstance(value, str):
        lines = value.split("\n", MAX_LINES)
        if name in _TEXTS:
            return [line for line in lines if line not in old] if old else lines
        if name in _PATCHES:
            return added_lines(lines)
        return lines if name in _COMMANDS and "<<" in value else []
    if isinstance(value, list) and depth:
        return [line for item in value for line in _written(item, name, old, depth - 1)]
    if isinstance(value, Mapping) and depth:
        members = {_plain(written): item for written, item in value.items()}
        before = frozenset(line for one in members.keys() & _OLD_TEXTS for line in _lines_of(members[one]))
        return [line for one, item in members.items() for line in _written(item, one, before, depth - 1)]
    return []


def _plain(name: Any) -> str:  # noqa: ANN401 - what was recorded
    return name.lower().replace("_", "").replace("-", "") if isinstance(name, str) else ""


def _lines_of(value: Any) -> list[str]:  # noqa: ANN401 - decoded JSON
    texts = value if isinstance(value, list) else [value]
    return [line for text in texts if isinstance(text, str) for line in text.split("\n", MAX_LINES)]
