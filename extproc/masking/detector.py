"""Find secrets in bytes with the kingfisher engine: its rules, ours, and those of the user's files.

Only this module knows the engine. Scanning never uses the network: the engine's validation is not called.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

import yaml
from kingfisher_sdk import _native

from extproc.errors import ConfigError
from extproc.masking.checks import CHECKS
from extproc.masking.finding import Hit
from extproc.masking.switched_off import SWITCHED_OFF

CONFIDENCE: Final = "medium"
"""The engine's rules from this confidence on are used: those of medium added no false alarm on 4.5 million lines."""

MIN_SECRET: Final = 4
"""In characters: a rule that may take less (`.*`, `\\w`) would mask ordinary words and numbers."""

_PACKS: Final = Path(__file__).parent / "rules"
_BUILT_IN: Final = {"secrets": _PACKS / "secrets.yaml", "personal-data": _PACKS / "personal-data.yaml"}
_FAMILY: Final = re.compile(r"^(?:betterleaks\.|custom\.|kingfisher\.|veles\.secrets/)")
_ID: Final = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_BY_START: Final = operator.attrgetter("start", "end")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Name a set of rules: a file of the user's, or with `file` None the built-in pack of that name.

    A file is kingfisher's YAML (`rules: [{id, name, pattern, …}]`) or gitleaks' TOML (`[[rules]] id, regex, …`).
    """

    name: str
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    pattern: str
    set: str


class Detector:
    """Find what a set of rules looks for; any number of threads may scan at the same time."""

    def __init__(self, native: _native.Rules, rules: Mapping[str, _Rule], digest: str) -> None:
        """Take the compiled rules and, by the engine's ids, those of them whose finds count."""
        # Encoded secrets are left alone: decoding base64 would make every long word a beginning of a secret, and the
        # text would have to wait for the end of each.
        self._scanner = _native.Scanner(native, base64=False, dedup=False, redact=False, min_entropy=None)
        self._low = _native.Scanner(native, base64=False, dedup=False, redact=False, min_entropy=0.0)
        self._active = {engine_id: (rule.id, CHECKS.get(rule.id)) for engine_id, rule in rules.items()}
        self._sets = {rule.id: rule.set for rule in rules.values()}
        self.patterns: Mapping[str, str] = {rule.id: rule.pattern for rule in rules.values()}
        self.digest = digest

    def scan(self, data: bytes, since: int = 0) -> list[Hit]:
        """Return what is found in UTF-8 text, by place; `start` and `end` are offsets of the secret alone in `data`.

        What ends at or before `since` is left out. Finds may overlap: two rules may know the same secret, or one a part
        of what the other takes.
        """
        data = _no_utf16(data)
        hits = [hit for found in self._scanner.scan_bytes(data) if (hit := self._hit(found, data, since)) is not None]
        if len(hits) > 1:
            hits.sort(key=_BY_START)
        return hits

    def suspects(self, data: bytes) -> list[Hit]:
        """Return what any pattern matches, by place: what `scan` finds, and what is refused by entropy or a check.

        A pattern that matched something it then refuses does not match what overlaps with that: where this returns
        nothing, a scan of any part of `data` finds nothing either.
        """
        found = self._low.scan_bytes(_no_utf16(data))
        hits = [Hit(one.rule_id, one.location["start_offset"], one.location["end_offset"]) for one in found]
        return sorted(hits, key=_BY_START) if len(hits) > 1 else hits

    def set_of(self, rule: str) -> str:
        """Return the name of the set that a rule belongs to; KeyError for an id that no hit has."""
        return self._sets[rule]

    def _hit(self, found: _native.Finding, data: bytes, since: int) -> Hit | None:
        active = self._active.get(found.rule_id)
        if active is None:
            return None
        rule, check = active
        location = found.location
        start, end = location["start_offset"], location["end_offset"]
        if end <= since or (check is not None and not check(data, start, end)):
            return None
        return Hit(rule, start, end)


_NO_UTF16: Final = bytes.maketrans(b"\0\xfe\xff", b"   ")


def _no_utf16(data: bytes) -> bytes:
    """Keep the engine from taking text with zero bytes or such a beginning for UTF-16: its offsets are of a copy."""
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.translate(_NO_UTF16)
    return data


def load(sets: Sequence[RuleSet], cache_dir: Path | None) -> Detector:
    """Compile rule sets; `cache_dir` keeps what was compiled for the next start (4 s against 0.6 s).

    Rules of files replace the engine's own of the same id. Raises ConfigError naming the file and the rule.
    """
    files = {_file_of(one): one.name for one in sets}
    digest = hashlib.sha256(f"kingfisher {_native.__version__} {CONFIDENCE}".encode())
    own: dict[str, _Rule] = {}
    for path, name in files.items():
        digest.update(hashlib.sha256(_read(path)).digest())
        for engine_id, rule in _checked(path, name):
            if any(rule.id == other.id for other in own.values()):
                raise ConfigError(f"{path}: rule {rule.id}: there is already a rule of this id")
            own[engine_id] = rule
    engine = any(one.name == "secrets" and one.file is None for one in sets)
    native = _compile(list(files), engine=engine, cache_dir=cache_dir)
    return Detector(native, own | _engine_rules(native, own), digest.hexdigest())


def check_file(path: Path) -> None:
    """Check a rule file of the user's; raises ConfigError naming the file and the rule."""
    _checked(path, "")


def _checked(path: Path, name: str) -> list[tuple[str, _Rule]]:
    rules = list(_rules_of(path, _read(path), name))
    if path not in _BUILT_IN.values():
        # By itself, so that what the engine complains of is known to be in this file.
        try:
            _compile([path], engine=False, cache_dir=None)
        except ConfigError:
            _name_broken(path, rules)
            raise
    return rules


def _name_broken(path: Path, rules: list[tuple[str, _Rule]]) -> None:
    """Raise ConfigError for the first rule that does not compile: of a TOML file the engine does not say which."""
    for _, rule in rules:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as alone:
            json.dump({"rules": [{"id": "one.rule", "name": "alone", "pattern": rule.pattern}]}, alone)
            alone.flush()
            try:
                _native.Rules([alone.name], builtins=False, confidence=CONFIDENCE, cache=False, cache_dir=None)
            except (RuntimeError, ValueError) as error:
                reason = str(error).partition("one.rule ")[2] or str(error)
                raise ConfigError(f"{path}: rule {rule.id}: the engine cannot compile it: {reason}") from error


def _file_of(one: RuleSet) -> Path:
    path = one.file or _BUILT_IN.get(one.name)
    if path is None:
        raise ConfigError(f"rule set {one.name}: not built in ({', '.join(_BUILT_IN)}), so it needs a file")
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _compile(paths: list[Path], *, engine: bool, cache_dir: Path | None) -> _native.Rules:
    cache = None if cache_dir is None else str(cache_dir)
    try:
        return _native.Rules(
            [str(path) for path in paths], engine, CONFIDENCE, cache=cache is not None, cache_dir=cache
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{', '.join(map(str, paths))}: {error}") from error


def _engine_rules(native: _native.Rules, own: Mapping[str, _Rule]) -> dict[str, _Rule]:
    taken = {rule.id for rule in own.values()}
    rules = {}
    for engine_id in (one["id"] for one in native.metadata() if one["visible"]):
        detail, short = native.detail(engine_id), _FAMILY.sub("", engine_id)
        # A rule that wants a second secret elsewhere in the text cannot be decided while it streams.
        needs_another = any(not one["optional"] for one in detail["depends_on_rule"])
        if engine_id not in own and short not in taken and short not in SWITCHED_OFF and not needs_another:
            rules[engine_id] = _Rule(short, detail["detection_regex"], "secrets")
    return rules


# --- Rule files ------------------------------------------------------------------------------------------------------


def _rules_of(path: Path, raw: bytes, name: str) -> Iterator[tuple[str, _Rule]]:
    """Yield the rules of a file under the engine's ids, with what the engine would not complain of checked."""
    toml = path.suffix == ".toml"
    try:
        content: Any = tomllib.loads(raw.decode()) if toml else yaml.safe_load(raw)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not {'TOML' if toml else 'YAML'}: {error}") from error
    rules = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(rules, list) or not rules:
        raise ConfigError(f"{path}: expected `rules`, a list with at least one rule")
    for at, rule in enumerate(rules, 1):
        entry = rule if isinstance(rule, dict) else {}
        rule_id, pattern = entry.get("id"), entry.get("regex" if toml else "pattern")
        if not isinstance(rule_id, str) or not _ID.match(_FAMILY.sub("", rule_id)):
            raise ConfigError(f"{path}: rule {at}: expected `id`, 1 to 64 letters, digits, dots, dashes or underscores")
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError(
                f"{path}: rule {rule_id}: expected `{'regex' if toml else 'pattern'}`, a regular expression"
            )
        if _shortest(pattern) < MIN_SECRET:
            raise ConfigError(f"{path}: rule {rule_id}: it may take a secret of fewer than {MIN_SECRET} characters")
        yield (f"custom.{rule_id}" if toml else rule_id), _Rule(_FAMILY.sub("", rule_id), pattern, name)


def _shortest(pattern: str) -> int:
    """Return how short a secret the pattern can take; MIN_SECRET where only the engine understands its dialect."""
    flags = "".join(sorted(set("".join(re.findall(r"\(\?([imsx]+)\)", pattern)))))
    plain = re.sub(r"\(\?[imsx]+\)", "", pattern).replace(r"\z", r"\Z").replace("(?-i:", "(?:")
    try:
        tree = parser.parse(f"(?{flags}){plain}" if flags else plain)
    except (re.error, OverflowError, RecursionError):
        return MIN_SECRET
    # The secret is the first group; without one it is the whole match.
    widths: tuple[int, int] = tree.state.groupwidths[1] if tree.state.groups > 1 else tree.getwidth()
    return widths[0]
