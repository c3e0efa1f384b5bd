"""As much of JSON Schema as the API's description uses; a keyword that is not known here is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

Schema = dict[str, Any]
Faults = Iterator[str]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_SAYS_NOTHING: Final = {"title", "description", "default"}


def faults(value: Any, schema: Schema, document: Schema, at: str = "$") -> Faults:
    """Yield where and why a value is not as a schema of an OpenAPI document says."""
    if "type" in schema and (wrong := list(_type(value, schema, document, at))):
        yield from (f"{at}: {fault}" for fault in wrong)
        return
    for keyword in schema.keys() - _SAYS_NOTHING:
        if keyword not in _KEYWORDS:
            yield f"{at}: this test does not know {keyword}"
            continue
        found = _KEYWORDS[keyword](value, schema, document, at)
        yield from (fault if fault.startswith("$") else f"{at}: {fault}" for fault in found)


def _reference(value: Any, schema: Schema, document: Schema, at: str) -> Faults:
    name = schema["$ref"].removeprefix("#/components/schemas/")
    yield from faults(value, document["components"]["schemas"][name], document, at)


def _type(value: Any, schema: Schema, _document: Schema, _at: str) -> Faults:
    wanted = schema["type"]
    if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        yield f"{wanted} expected, got {value!r}"


def _any_of(value: Any, schema: Schema, document: Schema, at: str) -> Faults:
    if all(list(faults(value, one, document, at)) for one in schema["anyOf"]):
        yield f"nothing of {schema['anyOf']} fits {value!r}"


def _enum(value: Any, schema: Schema, _document: Schema, _at: str) -> Faults:
    if value not in schema["enum"]:
        yield f"{value!r} is none of {schema['enum']}"


def _required(value: Any, schema: Schema, _document: Schema, _at: str) -> Faults:
    yield from (f"{name} is missing" for name in schema["required"] if name not in value)


def _properties(value: Any, schema: Schema, document: Schema, at: str) -> Faults:
    wanted = schema["properties"]
    # What is answered has nothing that is not described.
    yield from (f"{name} is not described" for name in value.keys() - wanted.keys())
    for name in wanted.keys() & value.keys():
        yield from faults(value[name], wanted[name], document, f"{at}.{name}")


def _additional(value: Any, schema: Schema, document: Schema, at: str) -> Faults:
    wanted = schema["additionalProperties"]
    for name in value.keys() - schema.get("properties", {}).keys():
        yield from faults(value[name], wanted, document, f"{at}.{name}")


def _items(value: Any, schema: Schema, document: Schema, at: str) -> Faults:
    for number, one in enumerate(value):
        yield from faults(one, schema["items"], document, f"{at}[{number}]")


_KEYWORDS: Final[dict[str, Callable[[Any, Schema, Schema, str], Faults]]] = {
    "$ref": _reference,
    "type": _type,
    "anyOf": _any_of,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
}
