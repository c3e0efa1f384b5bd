"""Say whether a secret shows in a text that should not have it."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

from tests.masking.corpus import FORMATS, Sample

SHOWN: Final = 6
"""So many characters in a row: fewer may stand in the text around the secret by chance."""

# What docs/masking.md states: nothing tells the first letters of these from a word where nothing announces a secret.
RANDOM_FROM_THE_START: Final = frozenset({"azure-devops", "terraform-cloud", "maxmind"})


def _like_a_word(secret: str) -> int:
    found = re.match(r"[A-Z]{2,}|[A-Z]?[a-z]*", secret)
    return 0 if found is None else found.end()


def shows(blob: str, sample: Sample) -> bool:
    """Say whether a piece of the secret is in `blob`."""
    return any(piece in blob for piece in _pieces(sample.provider, sample.secret))


@lru_cache(maxsize=8)
def _pieces(provider: str, secret: str) -> list[str]:
    first = max(public_prefix(provider), _like_a_word(secret) if provider in RANDOM_FROM_THE_START else 0)
    return [secret[at : at + SHOWN] for at in range(first, max(first, len(secret) - SHOWN) + 1)]


def public_prefix(provider: str) -> int:
    """Return how many characters all secrets of a provider begin with."""
    fmt = FORMATS.get(provider, "|")
    return 0 if "|" in fmt else fmt.index("{")


def put_in(text: str, *, is_json: bool) -> str:
    """Return `text` as the field has it."""
    return json.dumps({"command": text}) if is_json else text
