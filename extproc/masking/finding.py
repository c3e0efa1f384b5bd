"""The vocabulary of masking: what was found, where, and what was done about it; never the secret itself."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Direction(StrEnum):
    """Which way the text went."""

    PROMPT = "prompt"
    ANSWER = "answer"


class Action(StrEnum):
    """What policy has done with what a set of rules finds."""

    MASK = "mask"
    BLOCK = "block"
    OBSERVE = "observe"
    OFF = "off"


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One place where a rule matched: `start` and `end` are byte offsets of the secret alone in the scanned bytes."""

    rule: str
    start: int
    end: int


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One secret that was found, as the record keeps it.

    `where` is the field: the path in a JSON body (`messages[3].content`) or the channel of a stream (`0.text`).
    `offset` counts characters in that field's text after masking. `at` is in milliseconds after the opening.
    `fingerprint` is 32 hex digits of an HMAC-SHA256 of the secret under the gateway's key: the same for the same
    secret, and of no use to somebody without the key.
    """

    rule: str
    direction: Direction
    where: str
    offset: int
    action: Action
    at: float
    fingerprint: str


def placeholder(rule: str) -> str:
    """Return what stands in the place of a secret that `rule` found."""
    return f"[MASKED:{rule}]"


def blocked_message(rule: str) -> str:
    """Say to the person at the client why nothing more comes; the secret is not named."""
    return f"Stopped by the gateway: a secret was found here (rule {rule}), and policy does not let it pass."
