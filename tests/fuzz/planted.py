"""Texts with a secret in them, made of the formats in tests/masking/corpus.py and words that mean nothing."""

from __future__ import annotations

from functools import cache
from random import Random

from tests.masking.corpus import Sample, private_key, samples
from tests.masking.shown import shows

_WORDS = (
    "the",
    "build",
    "ran",
    "on",
    "two",
    "hosts",
    "and",
    "then",
    "stopped.",
    "\n",
    "\n\n",
    "😀",
    "été",
    "x = 1;",
    "- ",
    "()",
)


@cache
def _samples() -> list[Sample]:
    return list(samples(20_240_801, repeat=2))


def planted(random: Random) -> Sample:
    """Return a text with one secret in it."""
    if random.random() < 0.05:
        pem = private_key(random)
        return Sample("private-key", "file", pem, "".join(pem.splitlines()[1:-1]))
    sample = random.choice(_samples())
    text = f"{harmless(random)}\n{sample.text}\n{harmless(random)}"
    return Sample(sample.provider, sample.form, text, sample.secret)


def harmless(random: Random) -> str:
    """Return a text without a secret."""
    return " ".join(random.choices(_WORDS, k=random.randint(0, 12)))


def assert_hidden(sample: Sample, *texts: str) -> None:
    """Fail where a piece of the secret is in any of the texts."""
    for text in texts:
        assert not shows(text, sample), f"{sample.provider}/{sample.form}: {sample.text!r} shows in {text!r}"
