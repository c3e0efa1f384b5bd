"""Say whether a path is one of those that globs in gitignore syntax protect, however it is spelled. Pure.

Matching is always without case, and a path is read in every way that some file system, shell, editor or URI library
reads it; it matches when any reading does. What cannot be understood matches. Letters that only look alike (Cyrillic
for Latin) are different names to every file system, and are here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

# Linux: PATH_MAX and NAME_MAX of limits.h. The number of segments keeps matching fast; nobody's tree is so deep.
_MAX_CHARS: Final = 4096
_MAX_SEGMENT_CHARS: Final = 255
_MAX_SEGMENTS: Final = 100
# An honest path has one or two readings, one that was escaped twice about a dozen.
_MAX_TEXTS: Final = 48
# Each `*` and `**` may multiply the time to match by the length of the path, which the model chooses.
_MAX_STARS: Final = 3

# In a glob: what Python's `re` warns of in a class ("possible nested set"), and what no path can have.
_UNCLEAR: Final = re.compile(r"\[[^\]]*(?:\[|--|&&|~~|\|\|)|[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WILD: Final = re.compile(r"[*?]")
_EDGES: Final = re.compile(r"^[\s\"'`]+|(?<![\s\"'`])[\s\"'`]+\Z")
# Not rendered, and ignored in names by HFS+: Unicode, "Default_Ignorable_Code_Point", those of no format category.
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_DEVICE: Final = re.compile(r"\A[\s\"'`]*[\\/]{2}[?.][\\/](?:UNC[\\/])?", re.IGNORECASE)
_URI: Final = re.compile(r"([a-z][a-z0-9+.-]+):(//)?", re.IGNORECASE)
_DRIVE: Final = re.compile(r"([A-Za-z]):")
# A name that Windows makes up for a longer one, which may be a protected one.
_SHORT_NAME: Final = re.compile(r"[^.~]{1,6}~[0-9]{1,2}(\.[^.]{0,3})?")
_VARIABLE: Final = re.compile(r"\$\{?[\w:.]+\}?|%\w+%(?=[\\/]|\Z)")
# Variables that hold a directory which may be the root of the workspace, or one above it.
_ABOVE: Final = re.compile(
    r"(?:\$(env:)?\{?(env:)?(pwd|home|cwd|workspacefolder|workspaceroot|userprofile|github_workspace)\}?"
    r"|%(cd|userprofile|homepath)%)(?=[\\/]|\Z)",
    re.IGNORECASE,
)


class PathRule:
    """Globs as in `.gitignore` and CODEOWNERS, none of them negated; any one of them is enough.

    A glob without a slash in it matches at any depth; one with a slash is anchored at the root of the workspace. Where
    that root is cannot be known, so an absolute path, and one that leaves the root by `..`, is matched from each of its
    directories on: `/home/x/proj/infra/prod.tf` matches `infra/**`. A path that names a protected directory itself
    (`infra`) matches, and one with a slash at its end stands for the directory and everything below it.

    Raises ValueError for a malformed glob; the text says which.
    """

    __slots__ = ("_anywhere", "_rooted", "_segments")

    def __init__(self, globs: Sequence[str]) -> None:
        both = [form for glob in globs for form in _forms(glob)]
        self._rooted = _any_of([_regex(glob) for glob in both])
        self._anywhere = _any_of([_regex("**/" + glob.lstrip("/")) for glob in both])
        self._segments = [_anchored_segments(glob) for glob in both]

    def matches(self, path: str) -> bool:
        """Say whether the path, as anybody wrote it, may be a protected one."""
        found = readings(path)
        if found is None or any(map(self._names, found)):
            return True
        return path.rstrip().endswith(("/", "\\")) and self.could_match_below(path)

    def could_match_below(self, directory: str) -> bool:
        """Say whether a protected path may lie in a directory: whoever removes or moves it, does so with the path."""
        found = readings(directory)
        if found is None or any(map(self._names, found)):
            return True
        # Whatever is absolute may have the root of the workspace anywhere below it.
        return any(
            path.startswith("/") or segments is None or _is_above(path.split("/"), segments)
            for path in found
            for segments in self._segments
        )

    def _names(self, path: str) -> bool:
        # With a slash at its end the path is also found by globs for directories, as if it were one.
        if path.startswith("/"):
            return self._anywhere.search(path[1:] + "/") is not None
        return self._rooted.search(path + "/") is not None


def readings(path: str) -> frozenset[str] | None:
    """Return every way to read a path, or None where it cannot be understood.

    A reading has no empty, `.` or `..` segments; it begins with a slash where the root is not known. Reading a reading
    gives it again.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    return _readings(path[: _MAX_CHARS + 1])


@lru_cache(maxsize=256)
def _readings(path: str) -> frozenset[str] | None:
    """Return what `readings` does, of the first characters; each protection of a policy asks for the same path."""
    texts = _texts(_DEVICE.sub("/", unicodedata.normalize("NFC", path), count=1))
    if texts is None:
        return None
    found = {_clean(text, windows=windows) for text in texts for windows in (False, True)}
    known = frozenset(one for one in found if one is not None)
    return known if len(known) == len(found) else None


def _texts(path: str) -> set[str] | None:
    """Return what becomes of a path when it is decoded and folded any number of times, in any order."""
    waiting, seen = [path], set[str]()
    while waiting:
        text = waiting.pop()
        if text in seen:
            continue
        if len(seen) == _MAX_TEXTS or len(text) > _MAX_CHARS or any(unicodedata.category(c) == "Cc" for c in text):
            return None
        seen.add(text)
        waiting += _rewritten(text)
    # A URI is never a path as it stands, and its query is no wildcard.
    return {text for text in seen if not _is_uri(text)}


def _is_uri(text: str) -> bool:
    found = _URI.match(text)
    return found is not None and found[2] is not None


def _rewritten(text: str) -> Iterator[str]:
    yield _EDGES.sub("", text)
    if uri := _URI.match(text):
        # Some readers take the authority for the first directory: with the slash both readings are one.
        yield "/" + text[uri.end() :]
        if uri[2]:
            yield "/" + re.split(r"[?#]", text[uri.end() :], maxsplit=1)[0]
            return
    if "%" in text:
        yield unquote(text)
    if "\\" in text:
        yield text.replace("\\", "/")
    yield _fold(text)


def _fold(text: str) -> str:
    """Return a text without case, compatibility forms and characters that nobody sees."""
    while True:
        visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
        # In upper case the dotless i of Turkish is the same as any other.
        folded = unicodedata.normalize("NFKC", _IGNORABLE.sub("", visible).upper().casefold().replace("i\u0307", "i"))
        if folded == text:
            return text
        text = folded


def _clean(text: str, *, windows: bool) -> str | None:
    """Return the path with its segments resolved, or None where it cannot be understood."""
    if _WILD.search(text):
        return None
    unknown_root = text.startswith("/") or _DRIVE.match(text) is not None
    text = _DRIVE.sub(r"\1:/", text, count=1) if windows and _DRIVE.match(text) else text
    segments: list[str] = []
    for written in text.split("/"):
        segment = _as_windows(written) if windows else written
        if segment == ".." and not segments:
            unknown_root = True
        elif segment == "..":
            segments.pop()
        elif segment not in {"", "."}:
            segments.append(segment)
    if not segments or len(segments) > _MAX_SEGMENTS or any(len(one) > _MAX_SEGMENT_CHARS for one in segments):
        return None
    if windows and any(map(_SHORT_NAME.fullmatch, segments)):
        return None
    if not unknown_root and _VARIABLE.match(segments[0]) and not _ABOVE.match(segments[0]):
        return None
    unknown_root |= segments[0].startswith("~") or _ABOVE.match(segments[0]) is not None
    return ("/" if unknown_root else "") + "/".join(segments)


def _as_windows(segment: str) -> str:
    # The name of a stream follows a colon; dots and blanks at the end are dropped (Microsoft, "Naming Files, Paths,
    # and Namespaces").
    name = (segment if segment.startswith("$") else segment.partition(":")[0]).rstrip(" ")
    return name if name in {".", ".."} else name.rstrip(". ")


def _forms(glob: str) -> list[str]:
    """Check a glob; return it as it is, and folded as paths are."""
    if glob.startswith("!"):
        raise ValueError(f"{glob!r}: a negated pattern protects nothing")
    if re.search(r"(?:^|/)\.{1,2}(?:/|\Z)|//|\A/?\Z", glob):
        raise ValueError(f"{glob!r}: expected a path without empty segments, . and ..")
    if _UNCLEAR.search(glob):
        raise ValueError(f"{glob!r}: a control character, or a [ class that regular expressions read in another way")
    segments = glob.split("/")
    if segments.count("**") > _MAX_STARS or any(one.count("*") > _MAX_STARS for one in segments):
        raise ValueError(f"{glob!r}: more than {_MAX_STARS} **, or more than {_MAX_STARS} * in a segment")
    return list(dict.fromkeys([unicodedata.normalize("NFC", glob), _fold(glob)]))


def _regex(glob: str) -> str:
    """Return the regular expression of a glob, to be searched for in a path."""
    try:
        regex: str | None = GitIgnoreSpecPattern.pattern_to_regex(glob)[0]
        # A range that is no range is found here.
        re.compile(regex or "")
    except (ValueError, re.error) as error:
        raise ValueError(f"{glob!r}: no pattern of gitignore ({error})") from error
    if regex is None:
        raise ValueError(f"{glob!r}: a blank, a comment, or a [ without its ]")
    # Many are joined to one expression, where a name may be given once.
    return regex.replace("?P<ps_d>", "?:")


def _any_of(regexes: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{one})" for one in regexes) or r"(?!)", re.IGNORECASE | re.DOTALL)


# A segment of an anchored glob; None is `**`.
_Segments = list[re.Pattern[str] | None]


def _anchored_segments(glob: str) -> _Segments | None:
    """Return the segments of a glob, or None where it matches at any depth."""
    if "/" not in glob.removesuffix("/"):
        return None
    return [None if one == "**" else _any_of([_regex("/" + one)]) for one in glob.strip("/").split("/")]


def _is_above(directory: list[str], segments: _Segments) -> bool:
    """Say whether something below the directory can match, where the directory itself does not."""
    for name, segment in zip(directory, segments, strict=False):
        if segment is None:
            return True
        if not segment.search(name):
            return False
    return True
