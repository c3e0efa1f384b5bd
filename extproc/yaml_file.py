"""Read a YAML file that people write into a checked model; every fault is told with its line and what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from extproc.errors import ConfigError

# These files are written by people; the bounds stop a wrong file, not a large company.
MAX_BYTES = 1 << 20
MAX_DEPTH = 8

Loc = tuple[str | int, ...]
Fault = tuple[Loc, str]
Model = TypeVar("Model", bound=BaseModel)


def _no_conflicts(_data: object) -> Iterator[Fault]:
    return iter(())


def _unknown_key(_loc: Loc) -> str:
    return "unknown key"


def _as_it_is(loc: Loc) -> Loc:
    return loc


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of file asks of its reader.

    `conflicts` yields faults that lie between fields, `unknown_key` words an unknown key, `place` turns pydantic's idea
    of a place into the file's (it names the kind of a discriminated union); `typed_scalars` takes the
    numbers and booleans of YAML as such, where otherwise only text and small whole numbers are values.
    """

    conflicts: Callable[[object], Iterator[Fault]] = _no_conflicts
    unknown_key: Callable[[Loc], str] = _unknown_key
    place: Callable[[Loc], Loc] = _as_it_is
    typed_scalars: bool = False
    empty: str = "the file is empty"


def as_written(value: object) -> object:
    """Return the word that stands in the file where YAML would read a boolean (`off`): for a field of words."""
    return value.raw if isinstance(value, _NotText) and value.kind == "bool" else value


class YamlFile:
    """One file: its bytes, its values, and the line of each of them."""

    def __init__(self, path: Path, kind: Kind) -> None:
        """Read the file; raises ConfigError where it cannot be read or is not YAML of the plain kind."""
        self.raw = _bytes(path)
        self._kind = kind
        self._notes = _Notes(path)
        self._data = _value(_parsed(self._notes, self.raw, kind.empty), (), self._notes, typed=kind.typed_scalars)

    def checked(self, model: type[Model]) -> Model:
        """Return the file as `model`; raises ConfigError with one line for each fault."""
        for loc, text in self._kind.conflicts(self._data):
            self._notes.add(loc, text)
        value = None
        try:
            value = model.model_validate(self._data)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._notes.add(*_fault(details, self._kind))
        if value is None or self._notes.told():
            raise ConfigError("\n".join(self._notes.told()))
        return value

    def tell(self, faults: Iterator[Fault]) -> list[str]:
        """Return remarks on a file that was checked as lines with their places, in the order of the file."""
        for loc, text in faults:
            self._notes.add(loc, text)
        return self._notes.told()


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
    return raw


# --- YAML with lines -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Notes:
    """What there is to say about a file, and the line of every key and list item to say it with."""

    path: Path
    lines: dict[Loc, int] = field(default_factory=dict)
    notes: list[tuple[int, str]] = field(default_factory=list)

    def add(self, loc: Loc, text: str, line: int | None = None) -> None:
        """Note a text about the place `loc`; a key that is not in the file has the line of what should hold it."""
        known = loc
        while known and known not in self.lines:
            known = known[:-1]
        steps = (f"[{step}]" if isinstance(step, int) else f".{_plain(step)}" for step in loc)
        place = "".join(steps).removeprefix(".")
        self.notes.append((line or self.lines[known], f"{place}: {text}" if place else text))

    def told(self) -> list[str]:
        """Return the notes in the order of the file: `policy.yaml:14: rules[2].id: …`."""
        return [f"{self.path}:{line}: {text}" for line, text in sorted(self.notes, key=lambda note: note[0])]

    def fatal(self, line: int, text: str) -> ConfigError:
        """Return the error of a file that is not even YAML; `line` counts from 0 as PyYAML's marks do."""
        return ConfigError(f"{self.path}:{line + 1}: {text}")


@dataclass(frozen=True, slots=True)
class _NotText:
    """A value that YAML reads neither as text, list nor mapping (`yes`, `1.0`, nothing); no field takes one."""

    raw: str
    kind: str


def _parsed(notes: _Notes, raw: bytes, empty: str) -> yaml.Node:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise notes.fatal(raw[: error.start].count(b"\n"), "not UTF-8") from error
    if "\t" in text:
        raise notes.fatal(text[: text.index("\t")].count("\n"), "a tab; write spaces")
    try:
        _refuse_aliases_and_depth(notes, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise notes.fatal(mark.line if mark else 0, f"not valid YAML: {said}") from error
    except yaml.reader.ReaderError as error:
        raise notes.fatal(text[: error.position].count("\n"), "a character that YAML does not allow") from error
    if root is None:
        raise notes.fatal(0, empty)
    return root


# The parser's events come before any tree is built, so what is refused here has cost neither memory nor stack.
def _refuse_aliases_and_depth(notes: _Notes, text: str) -> None:
    depth = 0
    line = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line if event.start_mark else line
        if getattr(event, "anchor", None):
            raise notes.fatal(line, "a YAML anchor or alias; quote text that begins with & or *")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise notes.fatal(line, f"nested more than {MAX_DEPTH} levels deep")


# YAML's "\ud800" makes a text that has no UTF-8, so no record and no answer could hold it.
_SURROGATE = re.compile("[\ud800-\udfff]")


def _value(node: yaml.Node, loc: Loc, notes: _Notes, *, typed: bool) -> object:  # noqa: PLR0911 - one return for each kind of node
    notes.lines.setdefault(loc, node.start_mark.line + 1)
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(item, (*loc, index), notes, typed=typed) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, loc, notes, typed=typed)
    if not isinstance(node, yaml.ScalarNode):
        return _NotText("this", kind)
    if typed and kind in {"int", "float", "bool"}:
        # The tag was resolved by the safe loader's rules; its constructor reads the scalar by the same.
        return yaml.SafeLoader("").construct_object(node)
    if kind == "int" and re.fullmatch(r"[0-9]{1,9}", node.value):
        return int(node.value)
    if kind == "str" and _SURROGATE.search(node.value):
        return _NotText(node.value.encode("ascii", "backslashreplace").decode(), "half a character")
    return node.value if kind == "str" else _NotText(node.value, kind)


def _mapping(node: yaml.MappingNode, loc: Loc, notes: _Notes, *, typed: bool) -> dict[str, object]:
    values: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _value(key_node, (*loc, "key", line), notes, typed=False)
        if not isinstance(key, str):
            notes.add(loc, f"expected text as a key; got {_got_for_text(key)}", line)
            key = str(getattr(key, "raw", key))
        if key in values:
            notes.add((*loc, key), f"the key is already on line {notes.lines[*loc, key]}", line)
        else:
            notes.lines[*loc, key] = line
            values[key] = _value(value_node, (*loc, key), notes, typed=typed)
    return values


# --- What is wrong, in words -----------------------------------------------------------------------------------------

_KINDS = {"bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _plain(key: str) -> str:
    return key if re.fullmatch(r"[\w.:-]+", key) else _quoted(key)


def _got(value: object) -> str:
    match value:
        case str():
            text = _quoted(value)
        case _NotText(kind="null"):
            text = "nothing"
        case _NotText(raw=raw, kind=kind):
            text = f'{raw}, which YAML reads as {_KINDS.get(kind, kind)}: if text is meant, write "{raw}"'
        case int():
            text = f"the number {value}"
        case _:
            text = "a list" if isinstance(value, list) else "a mapping"
    return text


def _got_for_text(value: object) -> str:
    return f'{_got(value)}: if text is meant, write "{value}"' if isinstance(value, int) else _got(value)


def _fault(details: ErrorDetails, kind: Kind) -> Fault:
    loc = kind.place(tuple(step for step in details["loc"] if step != "[key]"))
    got = details["input"]
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            text = kind.unknown_key(loc)
        case "missing":
            text = "required, but it is missing"
        case "string_type":
            text = f"expected text; got {_got_for_text(got)}"
        case "list_type":
            text = f"expected a list{f', write [{_plain(got)}]' if isinstance(got, str) else f'; got {_got(got)}'}"
        case "dict_type" | "model_type":
            text = f"expected a mapping (key: value); got {_got(got)}"
        case "enum" | "literal_error":
            text = f"expected {context['expected']}; got {_got(got)}"
        case "too_short":
            text = "empty, so it would match nothing; leave the key out instead"
        case "string_pattern_mismatch":
            text = f"expected text of the form {context['pattern']}; got {_got(got)}"
        case "value_error":
            text = str(context["error"]) + ("" if isinstance(got, dict) else f"; got {_got(got)}")
        case _:
            text = f"{details['msg']}; got {_got(got)}"
    return loc, text
