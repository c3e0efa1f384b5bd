"""The part of Cosmos DB's query language that this project uses; anything else is refused, as a typo would be.

Values are JSON's and `UNDEFINED`. Comparing different types, or anything undefined, gives `UNDEFINED`, and a condition
keeps only what is `True`: so a filter that would silently find nothing in Cosmos DB finds nothing here either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Scope = Mapping[str, Any]
Expression = Callable[[Scope], Any]


class QueryError(ValueError):
    pass


class _Undefined:
    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = _Undefined()

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?)|(?P<parameter>@\w+)|(?P<word>[A-Za-z_]\w*)"""
    r"""|(?P<sign><=|>=|!=|[=<>(),.*\[\]]))"""
)
_RESERVED = frozenset(
    {"AND", "ARRAY", "AS", "ASC", "BETWEEN", "BY", "CASE", "CAST", "CONVERT", "CROSS", "DESC", "DISTINCT", "ELSE"}
    | {"END", "ESCAPE", "EXISTS", "FALSE", "FOR", "FROM", "GROUP", "HAVING", "IN", "INDEX", "INNER", "INSERT", "INTO"}
    | {"IS", "JOIN", "KEY", "LEFT", "LIKE", "LIMIT", "NOT", "NULL", "OFFSET", "ON", "OR", "ORDER", "OUTER", "OVER"}
    | {"RIGHT", "SELECT", "SET", "THEN", "TOP", "TRUE", "UDF", "UNDEFINED", "UPDATE", "USER", "VALUE", "WHEN", "WHERE"}
    | {"WITH"}
)
"""Not allowed after a dot. More than Cosmos DB forbids, so that nothing depends on which."""


@dataclass(frozen=True, slots=True)
class Query:
    star: bool
    value: bool
    columns: list[tuple[str, Expression]]
    joins: list[tuple[str, Expression]]
    where: Expression
    order_by: Expression | None
    order_path: str | None
    descending: bool
    distinct: bool

    @property
    def needs_client(self) -> bool:
        """Whether the client must join what partitions answer; then the gateway refuses to run it over several."""
        return self.order_by is not None or self.distinct

    def run(self, items: Sequence[Any], parameters: Scope) -> Iterator[tuple[Any, Any, str]]:
        """Yield (result, what it is ordered by, `_rid` of the item)."""
        rows = [scope for item in items for scope in self._rows({"c": item, **parameters})]
        order_by = self.order_by
        if order_by is not None:
            rows = [row for row in rows if order_by(row) is not UNDEFINED]
            rows.sort(key=lambda row: _rank(order_by(row)), reverse=self.descending)
        seen = set()
        for row in rows:
            result = self._result(row)
            if result is UNDEFINED or (self.distinct and repr(result) in seen):
                continue
            seen.add(repr(result))
            yield result, None if order_by is None else order_by(row), row["c"]["_rid"]

    def _rows(self, scope: dict[str, Any]) -> Iterator[dict[str, Any]]:
        scopes = [scope]
        for name, path in self.joins:
            scopes = [{**one, name: element} for one in scopes for element in _elements(path(one))]
        yield from (one for one in scopes if self.where(one) is True)

    def _result(self, row: Scope) -> Any:
        if self.star:
            return row["c"]
        if self.value:
            return self.columns[0][1](row)
        pairs = [(name, expression(row)) for name, expression in self.columns]
        return {name: value for name, value in pairs if value is not UNDEFINED}


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rank(value: Any) -> tuple[int, Any]:
    kind = _type(value)
    if kind == "other":
        raise QueryError("ORDER BY of something that has no order")
    return ["null", "bool", "number", "string"].index(kind), 0 if value is None else value


def parse(text: str) -> Query:
    parser = _Parser(text)
    query = parser.query()
    parser.end()
    return query


@dataclass(slots=True)
class _Parser:
    text: str
    tokens: list[tuple[str, str]] = field(default_factory=list)
    at: int = 0

    def __post_init__(self) -> None:
        position = 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if match is None:
                raise QueryError(f"unexpected {self.text[position : position + 20]!r}")
            self.tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            position = match.end()

    def _peek(self, ahead: int = 0) -> tuple[str, str]:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self.at += 1
        return token

    def _take(self, *words: str) -> bool:
        kind, text = self._peek()
        if kind in {"word", "sign"} and text.upper() in words:
            self.at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise QueryError(f"expected {word}, not {self._peek()[1]!r}")

    def end(self) -> None:
        if self._peek()[0] != "end":
            raise QueryError(f"unexpected {self._peek()[1]!r}")

    def query(self) -> Query:
        self._expect("SELECT")
        distinct = self._take("DISTINCT")
        value = self._take("VALUE")
        star = not value and self._take("*")
        columns = [] if star else [("", self._or())] if value else self._columns()
        self._expect("FROM")
        self._expect("C")
        joins = []
        while self._take("JOIN"):
            name = self._next()[1]
            self._expect("IN")
            joins.append((name, self._path(self._next()[1])))
        where = self._or() if self._take("WHERE") else lambda _: True
        order_by, order_path, descending = None, None, False
        if self._take("ORDER"):
            self._expect("BY")
            order_path = "/".join(re.findall(r'\["(\w+)"\]', "".join(text for _, text in self.tokens[self.at :])))
            order_by = self._path(self._next()[1])
            descending = self._take("DESC") or (self._take("ASC") and False)
        return Query(star, value, columns, joins, where, order_by, order_path, descending, distinct)

    def _columns(self) -> list[tuple[str, Expression]]:
        columns = []
        while True:
            expression = self._or()
            name = self.tokens[self.at - 1][1] if self.tokens[self.at - 1][1] != "]" else self.tokens[self.at - 2][1]
            if self._take("AS"):
                name = self._next()[1]
            columns.append((name.strip('"'), expression))
            if not self._take(","):
                return columns

    def _or(self) -> Expression:
        sides = [self._and()]
        while self._take("OR"):
            sides.append(self._and())
        return sides[0] if len(sides) == 1 else lambda scope: _any([side(scope) for side in sides])

    def _and(self) -> Expression:
        sides = [self._not()]
        while self._take("AND"):
            sides.append(self._not())
        return sides[0] if len(sides) == 1 else lambda scope: _all([side(scope) for side in sides])

    def _not(self) -> Expression:
        if not self._take("NOT"):
            return self._comparison()
        inner = self._not()
        return lambda scope: not value if isinstance(value := inner(scope), bool) else UNDEFINED

    def _comparison(self) -> Expression:
        left = self._operand()
        kind, sign = self._peek()
        if kind == "sign" and sign in _COMPARE:
            self.at += 1
            right = self._operand()
            return lambda scope: _compare(sign, left(scope), right(scope))
        if self._take("IN"):
            options = self._arguments()
            return lambda scope: _any([_compare("=", left(scope), option(scope)) for option in options])
        return left

    def _operand(self) -> Expression:
        kind, text = self._next()
        match kind:
            case "string":
                literal = re.sub(r"\\(.)", r"\1", text[1:-1])
                return lambda _: literal
            case "number":
                number = float(text)
                return lambda _: number
            case "parameter":
                return lambda scope: scope.get(text, UNDEFINED)
            case "sign" if text == "(":
                inner = self._or()
                self._expect(")")
                return inner
            case "word" if text.upper() == "EXISTS":
                return self._exists()
            case "word" if text.upper() in {"TRUE", "FALSE", "NULL"}:
                constant = {"TRUE": True, "FALSE": False, "NULL": None}[text.upper()]
                return lambda _: constant
            case "word" if self._peek() == ("sign", "("):
                return self._call(text.upper())
            case "word":
                return self._path(text)
            case _:
                raise QueryError(f"unexpected {text!r}")

    def _exists(self) -> Expression:
        for word in ("(", "SELECT", "VALUE"):
            self._expect(word)
        name = self._next()[1]
        self._expect("FROM")
        self._expect(name.upper())
        self._expect("IN")
        path = self._path(self._next()[1])
        where = self._or() if self._take("WHERE") else lambda _: True
        self._expect(")")
        return lambda scope: any(where({**scope, name: one}) is True for one in _elements(path(scope)))

    def _call(self, name: str) -> Expression:
        if name not in _FUNCTIONS:
            raise QueryError(f"unknown function {name}")
        function, arguments = _FUNCTIONS[name], self._arguments()
        return lambda scope: function(*(argument(scope) for argument in arguments))

    def _arguments(self) -> list[Expression]:
        self._expect("(")
        arguments = [self._or()]
        while self._take(","):
            arguments.append(self._or())
        self._expect(")")
        return arguments

    def _path(self, root: str) -> Expression:
        if root.upper() in _RESERVED:
            raise QueryError(f"{root} is a reserved word")
        steps: list[str] = []
        while True:
            if self._take("."):
                steps.append(self._next()[1])
                if steps[-1].upper() in _RESERVED:
                    raise QueryError(f"{steps[-1]} is a reserved word")
            elif self._take("["):
                steps.append(self._next()[1].strip('"'))
                self._expect("]")
            else:
                return lambda scope: _walk(scope, root, steps)


def _walk(scope: Scope, root: str, steps: list[str]) -> Any:
    if root not in scope:
        raise QueryError(f"{root} is not known here")
    value = scope[root]
    for step in steps:
        value = value.get(step, UNDEFINED) if isinstance(value, dict) else UNDEFINED
    return value


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _type(value: Any) -> str:
    kinds = (("null", type(None)), ("bool", bool), ("number", (int, float)), ("string", str))
    return next((name for name, kind in kinds if isinstance(value, kind)), "other")


def _compare(sign: str, left: Any, right: Any) -> Any:
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    if _type(left) != _type(right):
        return {"=": False, "!=": True}.get(sign, UNDEFINED)
    return _COMPARE[sign](left, right)


def _any(values: list[Any]) -> Any:
    return True if True in values else UNDEFINED if any(value is not False for value in values) else False


def _all(values: list[Any]) -> Any:
    return False if False in values else UNDEFINED if any(value is not True for value in values) else True


def _array_contains(array: Any, value: Any) -> Any:
    return UNDEFINED if not isinstance(array, list) or value is UNDEFINED else value in array


def _starts_with(text: Any, prefix: Any) -> Any:
    return text.startswith(prefix) if isinstance(text, str) and isinstance(prefix, str) else UNDEFINED


def _contains(text: Any, piece: Any) -> Any:
    return piece in text if isinstance(text, str) and isinstance(piece, str) else UNDEFINED


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "ARRAY_CONTAINS": _array_contains,
    "STARTSWITH": _starts_with,
    "CONTAINS": _contains,
    "IS_NUMBER": lambda value: _type(value) == "number",
    "IS_STRING": lambda value: isinstance(value, str),
    "IS_DEFINED": lambda value: value is not UNDEFINED,
}
