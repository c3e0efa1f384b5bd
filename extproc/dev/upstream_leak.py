"""Secrets that nobody ever had, in the shapes that providers publish, drawn when they are asked for. Pure.

The same seed draws the same secrets. None stands in this file, so no scanner of repositories finds one here.
"""

from __future__ import annotations

import base64
import string
from random import Random

_WORD = string.ascii_letters + string.digits
_BASE32 = string.ascii_uppercase + "234567"
_KEY_BYTES = 1200
_PEM_LINE = 64  # RFC 7468 section 2


def assignments(seed: str) -> str:
    """Return lines as they stand in the environment files that people paste by accident."""
    random = Random(seed)  # noqa: S311 - nothing is protected by these secrets
    return (
        f"GITHUB_TOKEN=ghp_{_drawn(random, _WORD, 36)}\n"
        f"AWS_ACCESS_KEY_ID=AKIA{_drawn(random, _BASE32, 16)}\n"
        f"AWS_SECRET_ACCESS_KEY={_drawn(random, _WORD + '+/', 40)}\n"
        f"ANTHROPIC_API_KEY=sk-ant-api03-{_drawn(random, _WORD, 93)}AA\n"
        f"DATABASE_URL=postgresql://service:{_drawn(random, _WORD, 20)}@db.internal:5432/app\n"
    )


def private_key(seed: str) -> str:
    """Return the text of a private key in PEM, with random bytes for a key."""
    body = base64.b64encode(Random(seed).randbytes(_KEY_BYTES)).decode()  # noqa: S311 - as above
    lines = "\n".join(body[at : at + _PEM_LINE] for at in range(0, len(body), _PEM_LINE))
    kind = "PRIVATE KEY"
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


def _drawn(random: Random, alphabet: str, length: int) -> str:
    return "".join(random.choices(alphabet, k=length))
