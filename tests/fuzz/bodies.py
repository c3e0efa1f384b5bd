"""Fuzz requests and JSON answers of every dialect."""

from __future__ import annotations

import json
from dataclasses import asdict
from random import Random
from typing import Any

from extproc.dialect.port import BadAnswer, BadRequest
from extproc.endpoint import EndpointKind
from extproc.masking.body import masked_json
from extproc.masking.finding import Direction
from extproc.rules import DIALECTS
from tests.detecting import masking
from tests.fuzz.formats import goldens
from tests.fuzz.mutate import mutated, mutated_tree, spelled
from tests.fuzz.planted import assert_hidden, harmless, planted
from tests.fuzz.texts import Note
from tests.masking.bodies import WHOLE
from tests.masking.fields import compact, decoded, strings
from tests.masking.shown import put_in


def valid(kind: EndpointKind, random: Random, note: Note) -> None:
    """Put a secret into a field: it must not show, all else must stay; a body without one passes byte for byte."""
    where = random.choice([one for one in WHOLE if one.kind is kind])
    sample = planted(random)
    with_secret = random.random() < 0.7
    tree = where.tree(put_in(sample.text if with_secret else harmless(random), is_json=where.is_json))
    extra: Any = random.choice((10**30, 1.5, 2**63, "\ud83d", "é😀", None, {"a": {}}, [1e22]))
    tree["x_extra"] = extra
    body = spelled(tree, random).encode("utf-8", "surrogatepass")
    note(body)
    out, findings = _masked(kind, where.direction, body)
    if not with_secret:
        assert out == body, f"nothing was to be masked, yet it is {out!r}"
        return
    read = json.loads(out)
    assert findings > 0
    assert_hidden(sample, out.decode("utf-8", "replace"), *strings(read))
    assert read["x_extra"] == extra
    assert _shape(read) == _shape(tree)


def havoc(kind: EndpointKind, random: Random, note: Note) -> None:
    """Change a request or an answer anyhow: only the declared errors, and what says the same is the same."""
    direction = random.choice(list(Direction))
    bodies = goldens(f"{kind}/*.json") + goldens(f"{kind}/*.request") + goldens(f"{kind}/requests/*.json")
    bodies += [compact(one.tree("text")) for one in WHOLE if one.kind is kind or not bodies]
    body = random.choice(bodies)
    tree = decoded(body)
    if not isinstance(tree, str) and random.random() < 0.6:
        body = spelled(mutated_tree(tree, random), random).encode("utf-8", "surrogatepass")
    if random.random() < 0.5:
        body = mutated(body, random)
    note(body)
    out, findings = _masked(kind, direction, body)
    if not findings:
        assert _comparable(out) == _comparable(body), f"nothing was masked, yet it says {out!r}"
    for one in (body, out):
        _parsed(kind, direction, one)


def _masked(kind: EndpointKind, direction: Direction, body: bytes) -> tuple[bytes, int]:
    masker = masking().masker(direction)
    return masked_json(body, masker, DIALECTS[kind]), len(masker.findings)


def _parsed(kind: EndpointKind, direction: Direction, body: bytes) -> None:
    try:
        if direction is Direction.PROMPT:
            asdict(DIALECTS[kind].parse_request(body))
        else:
            asdict(DIALECTS[kind].parse_answer(body))
    except (BadRequest, BadAnswer):
        pass


def _comparable(body: bytes) -> object:
    """Return what a body says, in a form that equals itself (NaN does not)."""
    try:
        return repr(json.loads(body))
    except (ValueError, RecursionError):
        return body


def _shape(tree: Any) -> Any:
    """Return decoded JSON with every string taken for the same."""
    if isinstance(tree, dict):
        return {name: _shape(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_shape(value) for value in tree]
    return "" if isinstance(tree, str) else tree
