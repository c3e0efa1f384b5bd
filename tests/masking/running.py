"""Run channels over texts in pieces, with rules that the real detector or a small one finds for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from extproc.masking.channel import Channel, Found, Rules
from extproc.masking.finding import Action, Direction
from extproc.masking.json_text import JsonChannel
from extproc.masking.masker import Masker, applied
from extproc.masking.policy import MaskingPolicy, RuleSetPolicy
from tests import detecting

TOKEN = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6"
PASSWORD = "hT7$kd02,mQz"
OURS = "gwCredential-q8Zr71LmPw0Xk2vT"


def policy(secrets: Action = Action.MASK, personal: Action = Action.OFF) -> MaskingPolicy:
    return MaskingPolicy(
        sets=(
            RuleSetPolicy("secrets", None, secrets, secrets),
            RuleSetPolicy("personal-data", None, personal, personal),
        )
    )


@cache
def rules(personal: Action = Action.OFF, secrets: Action = Action.MASK) -> Rules:
    return detecting.masking(policy(secrets, personal)).rules(Direction.ANSWER, (OURS,), ())


def masker(
    secrets: Action = Action.MASK, personal: Action = Action.OFF, direction: Direction = Direction.ANSWER
) -> Masker:
    made = detecting.masking(policy(secrets, personal)).masker(direction)
    made.literals = (OURS,)
    return made


def run(channel: Channel | JsonChannel, pieces: Iterable[str]) -> tuple[str, list[Found]]:
    """Return the masked text and the findings."""
    pieces = list(pieces)
    ops = [op for piece in pieces for op in channel.feed(piece)] + channel.finish()
    text = "".join(pieces)
    assert sum(op.count for op in ops) == len(text)
    return applied(text, ops), channel.found


def cut(text: str, places: Sequence[int]) -> list[str]:
    """Cut a text at places, in any order and of any size."""
    cuts = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
