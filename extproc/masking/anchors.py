"""Derive from the regexes of rules what can begin a secret, so that a stream holds back only what may become one.

Two kinds of anchors. A *head* is how the secret itself may begin, as character sets for its first places (`ghp_`, then
letters or digits). A *keyword* is text that stands before a secret which has no beginning of its own (`heroku`, `key`).
A rule that has neither is *wide*: for its sake every unfinished word has to wait, or, for rules that are known to find
only random letters and digits, every word that does not look like one. What is derived may be too much, and then
something waits without need, but never too little, with two exceptions that can be seen in the masked text. A secret
glued to a word before it (`xghp_…`) shows what announces it, its public prefix. A secret of a rule in `odd` shows what
stands before its first digit, unless something announces it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

HEAD_CHARS: Final = 8
"""So many places of a secret's beginning are looked at."""

_MAX_HEADS_OF_RULE: Final = 2000
_FEW_CHARS: Final = 4
"""A set of so many characters is as good as each of them."""

_MAX_REACH: Final = 160
_MAX_GAP: Final = 64
"""What has no bound of its own (`\\s*`) is taken to be this long, in characters."""

KEYWORD_CHARS: Final = 2
"""A shorter literal is no keyword: it occurs everywhere."""

_KEYWORD_ENOUGH: Final = 10
"""No more of a literal is told apart."""

_LONE_HEAD_CHARS: Final = 4
"""Fixed text of this length that begins a secret announces the rest of it also inside a word."""

_ASCII: Final = frozenset(map(chr, range(128)))
_LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_WIDE_PLACES: Final = 4
_DELIMITERS: Final = frozenset(char for char in _ASCII if char.isspace() or char in "\"'`")
"""What ends a word, as in `channel`."""

Place = frozenset[str]
Head = tuple[Place, ...]
Nodes = Sequence[tuple[Any, Any]]


class _TooMany(Exception):
    """Say that a pattern has more beginnings than are worth listing."""


@dataclass(frozen=True)
class Anchors:
    """What a set of rules looks for: `heads`, `keywords` in lower case with the `reach` in characters behind them."""

    heads: frozenset[Head]
    keywords: frozenset[str]
    reach: int
    wide: frozenset[str]
    """The rules because of which every word has to wait."""
    odd: frozenset[str]
    """The rules because of which a word waits that does not look like one."""
    shortest: int = 0
    """So many characters at least has the word in which a secret ends that no keyword announces.

    0 where that is not known, or where a secret that a keyword announces may be more than one word.
    """

    @cached_property
    def longest_keyword(self) -> int:
        """Return the length of the longest keyword, in characters."""
        return max(map(len, self.keywords), default=0)

    @cached_property
    def _keyword(self) -> re.Pattern[str]:
        # No keyword that contains another is searched for, so that occurrences end in the order in which they begin.
        free = [word for word in self.keywords if self.keywords.isdisjoint(_proper_parts(word))]
        return re.compile(_alternatives(sorted(free)) if free else "(?!)")

    def keyword_ends(self, text: str) -> list[int]:
        """Return where the keywords in `text` end, in order."""
        # Only ASCII is folded: other letters could change the length.
        folded = (
            text.lower()
            if text.isascii()
            else text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
        )
        ends = []
        found = self._keyword.search(folded)
        while found is not None:
            ends.append(found.end())
            found = self._keyword.search(folded, found.start() + 1)
        return ends

    @cached_property
    def long_word(self) -> re.Pattern[str]:
        """Find a part of a word that is `shortest` characters long."""
        return re.compile(rf"[^\s\"'`\x80-\U0010ffff]{{{self.shortest}}}")

    @cached_property
    def _by_first(self) -> dict[str, re.Pattern[str]]:
        starts: dict[str, set[Head]] = {}
        for head in self.heads:
            for char in head[0]:
                starts.setdefault(char, set()).add(head[1:])
        return {char: re.compile(_viable(rests), re.DOTALL) for char, rests in starts.items()}

    def begins(self, text: str, at: int, end: int) -> bool:
        """Say whether a secret may begin at `at`, by what there is of `text` up to `end`."""
        viable = self._by_first.get(text[at])
        return viable is not None and viable.match(text, at + 1, end) is not None


def anchors(patterns: Iterable[tuple[str, str]], random: Container[str] = ()) -> Anchors:
    """Derive the anchors of rules, given as (id, regex); those in `random` find only random letters and digits."""
    heads: set[Head] = set()
    keywords: set[str] = set()
    wide: set[str] = set()
    reach = 0
    sizes: list[int] = []
    for rule, pattern in patterns:
        try:
            before, secret, ignore_case = _split(pattern)
            before_secret = _keywords(before, ignore_case, _MAX_REACH)
            if before_secret is not None:
                keywords |= before_secret[0]
                reach = max(reach, before_secret[1])
                sizes += [] if _is_one_word(secret) else [0]
                continue
            sizes.append(_last_word(secret))
            own = _heads(secret, ignore_case, HEAD_CHARS)
            if any(_is_wide(head) for head in own):
                wide.add(rule)
                continue
            heads.update(own)
            # Where nothing separates a secret from the word before it, its own beginning announces the rest of it.
            keywords |= {word for head in own if len(word := _literal(head)) >= _LONE_HEAD_CHARS}
        except (re.error, _TooMany, OverflowError, RecursionError):
            # A regex of another dialect than Python's: nothing is known of its beginning.
            wide.add(rule)
            sizes.append(0)
    odd = frozenset(rule for rule in wide if rule in random)
    return Anchors(frozenset(heads), frozenset(keywords), reach, frozenset(wide) - odd, odd, min(sizes, default=0))


# --- Parts of a pattern ----------------------------------------------------------------------------------------------

_CLASSES: Final = {"[:alnum:]": "A-Za-z0-9", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:xdigit:]": "A-Fa-f0-9"}
_FLAGS: Final = {"i": re.IGNORECASE, "x": re.VERBOSE, "s": re.DOTALL, "m": re.MULTILINE}


def _split(pattern: str) -> tuple[Nodes, Nodes, bool]:
    """Return what stands before the secret, the secret, and whether case is ignored in it.

    The secret is the first capturing group, or all of the pattern where there is none.
    """
    tree = _parsed(pattern)
    ignore_case = bool(tree.state.flags & re.IGNORECASE)
    return _first_group(list(tree), [], ignore_case=ignore_case) or ([], list(tree), ignore_case)


def _parsed(pattern: str) -> Any:  # noqa: ANN401 - the parser's own
    """Parse a pattern of the engine's dialect; raises what Python's parser does where it is not understood."""
    for name, members in _CLASSES.items():
        pattern = pattern.replace(name, members)
    pattern = pattern.replace(r"\z", r"\Z").replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!")
    flags = 0
    # Python wants global flags at the very beginning; elsewhere they are taken to hold for all of the pattern.
    for letters in re.findall(r"\(\?([ixsm]+)\)", pattern):
        for letter in letters:
            flags |= _FLAGS[letter]
    # Case that is regarded again in a part is ignored here as well: that only allows for more.
    pattern = re.sub(r"\(\?[ixsm]+\)", "", pattern).replace("(?-i:", "(?:")
    return parser.parse(pattern, flags)


def _first_group(nodes: Nodes, before: list[tuple[Any, Any]], *, ignore_case: bool) -> tuple[Nodes, Nodes, bool] | None:
    for at, (kind, value) in enumerate(nodes):
        so_far = [*before, *nodes[:at]]
        if kind is op.SUBPATTERN:
            group, added, _, inner = value
            inner_case = ignore_case or bool(added & re.IGNORECASE)
            if group is not None:
                return so_far, list(inner), inner_case
            branches = [inner]
        elif kind is op.BRANCH:
            branches, inner_case = value[1], ignore_case
        else:
            continue
        # Alternatives with a group each have no single secret; the whole alternation stands for it.
        found = [_first_group(list(inner), so_far, ignore_case=inner_case) for inner in branches]
        if len(branches) == 1 and found[0] is not None:
            return found[0]
        if any(found):
            return so_far, [(kind, value)], inner_case
    return None


def _heads(nodes: Nodes, ignore_case: bool, room: int) -> set[Head]:  # noqa: FBT001 - a flag of the pattern
    """Return every beginning that `nodes` can match, at most `room` places long."""
    heads: set[Head] = {()}
    for kind, value in nodes:
        if all(len(head) >= room for head in heads):
            break
        longer: set[Head] = set()
        for head in heads:
            if len(head) >= room:
                longer.add(head)
            else:
                longer |= {head + more for more in _head(kind, value, ignore_case, room - len(head))}
        if len(longer) > _MAX_HEADS_OF_RULE:
            raise _TooMany
        heads = longer
    return heads


def _head(kind: Any, value: Any, ignore_case: bool, room: int) -> set[Head]:  # noqa: ANN401, FBT001 - the parser's own
    if kind in {op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY}:
        return {(_place(kind, value, ignore_case=ignore_case),)}
    if kind is op.SUBPATTERN:
        return _heads(list(value[3]), ignore_case or bool(value[1] & re.IGNORECASE), room)
    if kind is op.BRANCH:
        return {head for branch in value[1] for head in _heads(list(branch), ignore_case, room)}
    if kind in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
        low, high, inner = value
        once = _heads(list(inner), ignore_case, room)
        heads: set[Head] = {()} if low == 0 else set()
        repeated: set[Head] = {()}
        for count in range(1, min(high, room) + 1):
            repeated = {(head + more)[:room] for head in repeated for more in once}
            if len(repeated) > _MAX_HEADS_OF_RULE:
                raise _TooMany
            if count >= min(low, room):
                heads |= repeated
        return heads
    if kind in {op.AT, op.ASSERT, op.ASSERT_NOT}:
        return {()}
    raise _TooMany


def _place(kind: Any, value: Any, *, ignore_case: bool) -> Place:  # noqa: ANN401 - the parser's own
    if kind is op.ANY:
        return _ASCII
    items = value if kind is op.IN else [(op.LITERAL, value)]
    negated = kind is op.NOT_LITERAL
    chars: set[str] = set()
    for what, detail in items:
        if what is op.NEGATE:
            negated = True
        elif what is op.LITERAL:
            chars.add(chr(detail))
        elif what is op.RANGE:
            chars.update(map(chr, range(detail[0], min(detail[1], 127) + 1)))
        elif what is op.CATEGORY:
            chars |= _CATEGORIES[detail]
    if ignore_case:
        chars |= {char.lower() for char in chars} | {char.upper() for char in chars}
    return _ASCII - chars if negated else frozenset(chars)


def _category(pattern: str) -> Place:
    return frozenset(char for char in _ASCII if re.fullmatch(pattern, char))


_CATEGORIES: Final = {
    op.CATEGORY_DIGIT: _category(r"\d"),
    op.CATEGORY_NOT_DIGIT: _category(r"\D"),
    op.CATEGORY_SPACE: _category(r"\s"),
    op.CATEGORY_NOT_SPACE: _category(r"\S"),
    op.CATEGORY_WORD: _category(r"\w"),
    op.CATEGORY_NOT_WORD: _category(r"\W"),
}


def _is_wide(head: Head) -> bool:
    """Say whether any word may be such a beginning."""
    return not head or all(place >= _LOWER for place in head[:_WIDE_PLACES])


def _literal(head: Head) -> str:
    """Return the fixed text that `head` begins with, in lower case."""
    text = ""
    for place in head:
        folded = {char.lower() for char in place}
        if len(folded) != 1:
            break
        text += folded.pop()
    return text


# --- Keywords --------------------------------------------------------------------------------------------------------


def _keywords(nodes: Nodes, ignore_case: bool, room: int) -> tuple[set[str], int] | None:  # noqa: FBT001 - as above
    """Return literals of which every match of `nodes` has one, and how far from its end the secret may begin.

    That is at most `room`. None where there is nothing, or nothing telling, before the secret. Of several places in the
    pattern the one is taken whose shortest literal is the longest.
    """
    best: tuple[set[str], int] | None = None
    longest = KEYWORD_CHARS - 1
    for at in range(len(nodes)):
        words = {text for text, _ in _prefixes(nodes[at:], ignore_case)}
        shortest = min(map(len, words))
        reach = _longest(nodes[at:]) - shortest
        if shortest > longest and reach <= room:
            best, longest = (words, reach), shortest
        elif nodes[at][0] is op.SUBPATTERN and best is None:
            after = _longest(nodes[at + 1 :])
            inner = _keywords(list(nodes[at][1][3]), ignore_case, room - after)
            if inner is not None:
                best, longest = (inner[0], inner[1] + after), min(map(len, inner[0]))
    return best


def _prefixes(nodes: Nodes, ignore_case: bool) -> set[tuple[str, bool]]:  # noqa: FBT001 - a flag of the pattern
    """Return the literal texts, in lower case, that matches of `nodes` begin with, and whether each is all of one."""
    prefixes = {("", True)}
    for kind, value in nodes:
        if not any(whole for _, whole in prefixes):
            break
        more = _prefix(kind, value, ignore_case)
        prefixes = {
            grown
            for text, whole in prefixes
            for grown in ({_grown(text, *one) for one in more} if whole else {(text, False)})
        }
        if len(prefixes) > _MAX_HEADS_OF_RULE:
            raise _TooMany
    return prefixes


def _grown(text: str, more: str, whole: bool) -> tuple[str, bool]:  # noqa: FBT001 - as in the pair
    text += more
    return text[:_KEYWORD_ENOUGH], whole and len(text) < _KEYWORD_ENOUGH


def _prefix(kind: Any, value: Any, ignore_case: bool) -> set[tuple[str, bool]]:  # noqa: ANN401, FBT001
    if kind in {op.LITERAL, op.IN}:
        chars = {char.lower() for char in _place(kind, value, ignore_case=ignore_case)}
        return {(char, True) for char in chars} if len(chars) <= _FEW_CHARS else {("", False)}
    if kind is op.SUBPATTERN:
        return _prefixes(list(value[3]), ignore_case)
    if kind is op.BRANCH:
        return {prefix for branch in value[1] for prefix in _prefixes(list(branch), ignore_case)}
    if kind in {op.MAX_REPEAT, op.MIN_REPEAT} and value[0] <= 1:
        once = _prefixes(list(value[2]), ignore_case)
        # What may come again is not known to be whole.
        once = once if value[1] == 1 else {(text, False) for text, _ in once}
        return once | {("", True)} if value[0] == 0 else once
    if kind in {op.AT, op.ASSERT, op.ASSERT_NOT}:
        return {("", True)}
    return {("", False)}


def _longest(nodes: Nodes) -> int:
    """Return how many characters `nodes` match at most."""
    return _width(nodes, max)


def _width(nodes: Nodes, of: Callable[[Iterable[int]], int]) -> int:
    """Return how many characters `nodes` match at most or, with `min`, at least."""
    total = 0
    for kind, value in nodes:
        if kind in {op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY}:
            total += 1
        elif kind is op.SUBPATTERN:
            total += _width(list(value[3]), of)
        elif kind is op.BRANCH:
            total += of(_width(list(branch), of) for branch in value[1])
        elif kind in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            total += of((value[0], min(value[1], _MAX_GAP))) * _width(list(value[2]), of)
    return total


# --- Words -----------------------------------------------------------------------------------------------------------


def _last_word(nodes: Nodes) -> int:
    """Return how many characters at least the word has in which a match of `nodes` ends.

    What ends the word may be a part of the match.
    """
    nodes = list(nodes)
    if nodes and not _is_one_word(nodes[-1:]) and _longest(nodes[-1:]) == 1:
        nodes.pop()
    first = next((at for at in range(len(nodes), 0, -1) if not _is_one_word(nodes[at - 1 : at])), 0)
    return _width(nodes[first:], min)


def _is_one_word(nodes: Nodes) -> bool:
    """Say whether `nodes` match only what may stand in one word; secrets are ASCII (`channel`)."""
    for kind, value in nodes:
        if kind in {op.LITERAL, op.IN}:
            inner = _place(kind, value, ignore_case=False).isdisjoint(_DELIMITERS)
        elif kind is op.SUBPATTERN:
            inner = _is_one_word(list(value[3]))
        elif kind is op.BRANCH:
            inner = all(_is_one_word(list(branch)) for branch in value[1])
        elif kind in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
            inner = _is_one_word(list(value[2]))
        else:
            inner = kind is op.AT
        if not inner:
            return False
    return True


def _proper_parts(word: str) -> Iterator[str]:
    for size in range(KEYWORD_CHARS, len(word)):
        for at in range(len(word) - size + 1):
            yield word[at : at + size]


# --- Regexes of what was derived -------------------------------------------------------------------------------------


def _alternatives(words: Sequence[str]) -> str:
    """Return a regex for any of the `words`, none of which begins another.

    A tree, without a group around the first letters: so Python's `re` skips fast to where one of them is.
    """
    by_first: dict[str, list[str]] = {}
    for word in words:
        by_first.setdefault(word[0], []).append(word[1:])
    parts = []
    for char, rests in by_first.items():
        inner = "" if rests == [""] else _alternatives(rests)
        parts.append(re.escape(char) + (f"(?:{inner})" if "|" in inner else inner))
    return "|".join(parts)


def _viable(rests: Iterable[Head]) -> str:
    r"""Return a regex that matches where the text is one of `rests` or ends before it could have become one."""
    by_place: dict[Place, set[Head]] = {}
    for rest in rests:
        if not rest:
            return ""
        by_place.setdefault(rest[0], set()).add(rest[1:])
    branches = []
    for place, more in by_place.items():
        members = "".join(map(re.escape, sorted(place)))
        branches.append(f"[{members}]{_viable(more)}")
    return rf"(?:\Z|{'|'.join(sorted(branches))})"
