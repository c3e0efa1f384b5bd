r"""Recognise private keys in PEM as they stream by: from the line that begins one on, not only once the last is there.

A key may stand in a text file, in a string of program code (`\n` written as two characters, quotes and `+` between the
lines), or be cut off. Formats: RFC 7468, RFC 1421 section 4.6 (header fields), OpenSSH's and OpenPGP's armour. Pure.
"""

from __future__ import annotations

import re
from typing import Final

RULE: Final = "private-key"

# Between lines: line ends, also escaped; what joins strings; what editors and tools put before a line, its number too.
_NUMBER: Final = r"(?<![A-Za-z0-9+/=])[0-9]{1,6}(?=[\t:|\u2192])"
_GLUE: Final = rf"""(?:\\[nrt]|{_NUMBER}|[\s"'`+,;:|>#*.()\\\u2192])"""
_MAX_GLUE: Final = f"{_GLUE}{{0,24}}"
_BASE64: Final = "[A-Za-z0-9+/=]"
_HEADER: Final = r"[A-Za-z][A-Za-z-]{2,30}: [^\n\\]{0,100}(?:\\r|\\n|[\r\n])+"
_RUN: Final = 16
"""So much base64 in a row is taken for a line of a key; words are shorter."""

_FIXED: Final = "-----BEGIN "
_BEGIN: Final = re.compile(_FIXED + r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def _cut(literal: str, rest: str) -> str:
    """Return a regex for `literal` and then `rest`, or any beginning of `literal`, at the end of the text."""
    regex = f"(?:{rest})?"
    for char in reversed(literal):
        regex = f"(?:{re.escape(char)}{regex})?"
    return regex + r"\Z"


_BEGIN_CUT: Final = re.compile("-" + _cut(_FIXED[1:], r"[A-Z0-9 ]{0,60}-{0,4}"))
_LONGEST_BEGIN: Final = 80
_FIRST: Final = re.compile(f"(?:{_MAX_GLUE}{_HEADER}){{0,6}}{_MAX_GLUE}{_BASE64}{{{_RUN}}}")
_FIRST_CUT: Final = re.compile(
    f"(?:{_MAX_GLUE}{_HEADER}){{0,6}}{_MAX_GLUE}"
    rf"(?:{_BASE64}{{0,{_RUN}}}|[A-Za-z][A-Za-z-]{{0,30}}(?:: ?(?:[^\n\\]{{0,100}}\\?)?)?)\Z"
)
_REST_OF_RUN: Final = re.compile(f"{_BASE64}*")
_NEXT: Final = re.compile(f"{_MAX_GLUE}{_BASE64}{{{_RUN},}}")
_SHORT: Final = f"{_MAX_GLUE}(?:{_BASE64}{{1,{_RUN - 1}}}{_MAX_GLUE})?"
_END: Final = re.compile(rf"{_SHORT}-----END [A-Z0-9 ]{{0,60}}-----")
_END_CUT: Final = re.compile(_SHORT + _cut("-----END ", r"[A-Z0-9 ]{0,60}-{0,4}"))


def may_have(text: str) -> bool:
    """Say whether a text may have a private key in it; nearly none does, and this says so fast."""
    return _FIXED in text


def begin(text: str, start: int) -> re.Match[str] | None:
    """Return the first line that begins a private key at or after `start`."""
    # Nearly no text has one, and `find` says so much faster.
    at = text.find(_FIXED, start)
    return None if at < 0 else _BEGIN.search(text, at)


def cut_begin(text: str, start: int) -> int:
    """Return where the end of `text` may begin such a line, at or after `start`; its length where it does not."""
    end = len(text)
    if text.find("-", max(start, end - _LONGEST_BEGIN)) < 0:
        return end
    found = _BEGIN_CUT.search(text, max(start, end - _LONGEST_BEGIN))
    return end if found is None else found.start()


def confirmed(text: str, at: int) -> int | None:
    """Return how far the key that follows the line that ended at `at` is seen; 0 where none does.

    That is behind its header fields, in its base64. None while it is not known.
    """
    if first := _FIRST.match(text, at):
        return first.end()
    return None if _FIRST_CUT.match(text, at) else 0


def key_end(text: str, at: int) -> tuple[int, bool | None]:
    """Return how far the key goes on from `at`, which is in or after its base64, and whether it ends there.

    None while that is not known: what follows may or may not be part of it.
    """
    run = _REST_OF_RUN.match(text, at)
    while run is not None:
        at = run.end()
        run = _NEXT.match(text, at)
    if end := _END.match(text, at):
        return end.end(), True
    return at, None if _END_CUT.match(text, at) else True


def body(text: str) -> str:
    """Return the base64 of a key alone, without line ends and what else may stand between its lines."""
    text = _BEGIN.sub("", re.sub(r"-----END [A-Z0-9 ]{0,60}-----", "", text))
    text = re.sub(_HEADER, "", text)
    return re.sub(rf"\\[nrt]|{_NUMBER}|(?<=[ \t])\+|[^A-Za-z0-9+/=]", "", text)


def searched_for(secret: bytes) -> bytes:
    """Return what the fingerprint of a secret is made of: of a private key its body, however its lines end."""
    text = secret.decode("utf-8", "replace")
    return body(text).encode() if begin(text, 0) else secret
