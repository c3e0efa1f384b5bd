"""Mask a whole body: JSON string by string, anything else as plain text. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extproc import json_body
from extproc.dialect.port import Dialect
from extproc.masking.finding import Direction
from extproc.masking.masker import Masker
from extproc.masking.tree import TreeMasker, drop_logprobs


def masked_json(body: bytes, masker: Masker, dialect: Dialect, *, amend: Callable[[Any], bool] | None = None) -> bytes:
    """Return the body masked: the same bytes where nothing had to be changed.

    `amend` changes the decoded JSON and says whether it did. A body in which an object has a member twice is written
    anew with the one that was looked at, because readers differ in which of them they take.
    """
    # Also where every string turns out to be too short for a secret: somebody looked.
    masker.ran = True
    tree = json_body.decoded(body)
    if tree is None:
        text = body.decode("utf-8", "surrogateescape")
        after = masker.text(text, "body")
        return body if after is text else after.encode("utf-8", "surrogateescape")
    amended = amend is not None and amend(tree)
    # A body may be a bare string: the list is where it can be replaced.
    root = tree if isinstance(tree, dict | list) else [tree]
    walker = TreeMasker(masker, dialect.opaque, dialect.json_texts)
    masked = walker.mask(root)
    if masked and masker.direction is Direction.ANSWER:
        drop_logprobs(root)
    changed = masked or amended or json_body.repeats(body, tree, walker.members)
    return json_body.encoded(tree if isinstance(tree, dict | list) else root[0]) if changed else body
