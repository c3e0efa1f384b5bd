"""Read the fields and arguments of a GraphQL document, as much as is needed to know what its mutations do. Pure.

Source: GraphQL specification, October 2021, section 2 "Language".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_MAX_CHARS: Final = 1_000_000
_MAX_DEPTH: Final = 60

_TOKEN: Final = re.compile(
    r"(?P<skip>[\ufeff \t\r\n,]+|#[^\r\n]*)|(?P<name>[A-Za-z_]\w*)|(?P<mark>\.\.\.|[!$&()\[\]{}:=@|])"
    r'|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<block>"""(?:\\"""|(?!""").)*""")|(?P<string>"(?:\\.|[^"\\\r\n])*")',
    re.ASCII | re.DOTALL,
)
_MARKS: Final = frozenset("...!$&()[]{}:=@|") | {"...", ""}


class Unreadable(ValueError):
    """The document is not one of GraphQL's, or is larger than any that a client sends."""


def mutated(document: str, variables: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return every field of a document that has a mutation, with its arguments, by name and not by alias.

    The fields of all its operations and fragments are there, at any depth: which operation runs, and where a fragment
    is spread, makes no difference. Raises `Unreadable`.
    """
    if len(document) > _MAX_CHARS:
        raise Unreadable("too long")
    reader = _Reader(list(_tokens(document)), variables)
    reader.document()
    return reader.fields if reader.has_mutation else []


def _tokens(document: str) -> Iterator[str]:
    at = 0
    while at < len(document):
        found = _TOKEN.match(document, at)
        if found is None:
            raise Unreadable("no GraphQL")
        at = found.end()
        if found.lastgroup != "skip":
            yield found[0]


class _Reader:
    """A parser by recursive descent; it takes what servers refuse, but gives up on nothing that they take."""

    def __init__(self, tokens: list[str], variables: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._at = 0
        self._variables = variables
        self._defaults: dict[str, Any] = {}
        self.fields: list[tuple[str, dict[str, Any]]] = []
        self.has_mutation = False

    def document(self) -> None:
        """Read all of it, the fragments last, when it is known what their variables are by default."""
        for fragments in (False, True):
            self._at = 0
            while self._at < len(self._tokens):
                before = len(self.fields)
                if self._definition() is not fragments:
                    del self.fields[before:]

    def _definition(self) -> bool:
        """Read a definition; return whether it is a fragment."""
        keyword = self._peek()
        if keyword == "fragment":
            self._skip_to_selection()
        elif keyword != "{":
            self.has_mutation |= keyword == "mutation"
            self._name()
            if self._is_name(self._peek()):
                self._name()
            if self._peek() == "(":
                self._variable_definitions()
            self._directives()
        self._selection(_MAX_DEPTH)
        return keyword == "fragment"

    def _skip_to_selection(self) -> None:
        self._next()
        while self._peek() not in {"{", "@"}:
            self._name()
        self._directives()

    def _variable_definitions(self) -> None:
        self._expect("(")
        while self._peek() != ")":
            self._expect("$")
            name = self._name()
            self._expect(":")
            while self._peek() in {"[", "]", "!"} or self._is_name(self._peek()):
                self._next()
            if self._peek() == "=":
                self._next()
                default = self._value(_MAX_DEPTH)
                if self._defaults.setdefault(name, default) != default:
                    raise Unreadable("a variable has two values")
            self._directives()
        self._expect(")")

    def _directives(self) -> None:
        while self._peek() == "@":
            self._next()
            self._name()
            self._arguments()

    def _selection(self, depth: int) -> None:
        if depth == 0:
            raise Unreadable("nested too deeply")
        self._expect("{")
        while self._peek() != "}":
            if self._peek() == "...":
                self._next()
                while self._is_name(self._peek()):
                    # `on Type`, or the name of a fragment, after which the name of a field may stand.
                    if self._name() != "on":
                        break
                self._directives()
            else:
                self._field()
            if self._peek() == "{":
                self._selection(depth - 1)
        self._expect("}")

    def _field(self) -> None:
        name = self._name()
        if self._peek() == ":":
            self._next()
            name = self._name()
        self.fields.append((name, self._arguments()))
        self._directives()

    def _arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._peek() == "(":
            self._next()
            while self._peek() != ")":
                name = self._name()
                self._expect(":")
                found[name] = self._value(_MAX_DEPTH)
            self._next()
        return found

    def _value(self, depth: int) -> Any:  # noqa: ANN401 - a value of GraphQL as one of JSON
        if depth == 0:
            raise Unreadable("nested too deeply")
        token = self._next()
        if token == "$":  # noqa: S105 - a mark of GraphQL, no password
            name = self._name()
            return self._variables[name] if name in self._variables else self._defaults.get(name)
        if token == "[":  # noqa: S105 - likewise
            items = []
            while self._peek() != "]":
                items.append(self._value(depth - 1))
            self._next()
            return items
        if token == "{":  # noqa: S105 - likewise
            fields = {}
            while self._peek() != "}":
                name = self._name()
                self._expect(":")
                fields[name] = self._value(depth - 1)
            self._next()
            return fields
        if token in _MARKS:
            raise Unreadable("expected a value")
        return _text(token) if token.startswith('"') else token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise Unreadable("ends too early")
        self._at += 1
        return token

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise Unreadable(f"expected {mark}")

    def _name(self) -> str:
        token = self._next()
        if not self._is_name(token):
            raise Unreadable("expected a name")
        return token

    @staticmethod
    def _is_name(token: str) -> bool:
        return token[:1].isalpha() or token[:1] == "_"


def _text(token: str) -> str:
    if token.startswith('"""'):
        return token[3:-3].replace('\\"""', '"""')
    try:
        # The escapes are those of JSON, and braces around a code point of any length.
        braced = re.sub(r"\\u\{([0-9A-Fa-f]{1,6})\}", lambda code: chr(int(code[1], 16)), token)
        text: str = json.loads(braced, strict=False)
    except (ValueError, OverflowError) as error:
        raise Unreadable("a string") from error
    return text.encode("utf-8", "replace").decode()
