"""Conditions of rules on who asks and what for: the keys of `when`, their globs, and what a request shows to them.

Pure. `policy_file` reads them from YAML; `docs/policy.md` is the guide for those who write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from extproc.globs import IN_SEGMENT, path_regex, text_regex

# What one request shows to conditions, by the name of the condition. A fact the request lacks has no values, and a
# condition on no values never holds.
Seen = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of a rule's `when`: it holds when any value of the request is one that the rule names.

    `name` is the key (`groups`, `claims.ref`), `written` the values as the file has them.
    """

    name: str
    written: tuple[str, ...]
    accepts: Callable[[Collection[str]], bool]

    def holds(self, seen: Seen) -> bool:
        """Say whether the request has a value that is named here."""
        return self.accepts(seen.get(self.name, ()))

    def objection(self, seen: Seen) -> str:
        """Say in a few words why the condition does not hold."""
        values = seen.get(self.name, ())
        return f"{self.name}: {listing(sorted(values)) or 'the request has none'}, wanted {listing(self.written)}"


def all_hold(conditions: Iterable[Condition], seen: Seen) -> bool:
    """Say whether every condition holds."""
    # 20 rules took 8 µs so, and 17 µs with `all` of a generator.
    for each in conditions:  # noqa: SIM110 - half the time, see above
        if not each.accepts(seen.get(each.name, ())):
            return False
    return True


def condition(name: str, written: Sequence[str], values: Collection[str] | None = None) -> Condition:
    """Build the condition `name` (`models`, `claims.ref`, …); `values` replaces what is written where that is an alias.

    Raises:
        ValueError: a glob is malformed; the text says how.

    """
    wanted = written if values is None else values
    to_regex = _GLOBS.get(name.partition(".")[0])
    if to_regex is None:
        return Condition(name, tuple(written), _any_of(frozenset(wanted)))
    regex = re.compile("|".join(f"(?:{to_regex(glob)})" for glob in wanted) or "(?!)", re.DOTALL)
    return Condition(name, tuple(written), _any_like(regex))


def path_glob(glob: str) -> re.Pattern[str]:
    """Compile a path glob, to be used with `fullmatch` on a folded path.

    Raises:
        ValueError: the glob is malformed; the text says how.

    """
    return re.compile(_path_regex(glob), re.DOTALL)


def _any_of(wanted: frozenset[str]) -> Callable[[Collection[str]], bool]:
    return lambda values: not wanted.isdisjoint(values)


def _any_like(regex: re.Pattern[str]) -> Callable[[Collection[str]], bool]:
    fullmatch = regex.fullmatch
    return lambda values: any(map(fullmatch, values))


def listing(values: Sequence[str], most: int = 8) -> str:
    """Return the first values in one line, and how many more there are."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


# Deny rules must not be dodged by writing the same thing in another way: GitHub takes `/repos/ACME/x` and
# `/repos/%61cme/x` for `/repos/acme/x`, and an upstream may do the same for a model's or a host's case.
def fold_path(path: str) -> str:
    """Return the path of a request, without query, as path globs are compared with it."""
    folded = unquote(path).casefold()
    return folded[:-1] if folded.endswith("/") and folded != "/" else folded


def _folded_regex(glob: str) -> str:
    return text_regex(glob.casefold())


def repository_regex(glob: str) -> str:
    """Return the expression of a glob for `OWNER/NAME`; raises ValueError where it is malformed."""
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", glob) or "**" in glob:
        raise ValueError("expected OWNER/NAME, where * stands for any part of one of them")
    return text_regex(glob.casefold(), IN_SEGMENT)


def _path_regex(glob: str) -> str:
    regex = path_regex(glob.casefold())
    if re.search(r"[%?#\s]", glob):
        raise ValueError("expected a path without query, as it reads after decoding: no %, ?, # or space")
    return regex


_GLOBS: Mapping[str, Callable[[str], str]] = {
    "claims": text_regex,
    "models": _folded_regex,
    "hosts": _folded_regex,
    "paths": _path_regex,
    "repositories": repository_regex,
}
