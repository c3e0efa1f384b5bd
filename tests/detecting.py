"""The real detector and what is built on it, compiled once: it takes seconds without the cache of the user."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from extproc.masking import detector
from extproc.masking.detector import Detector, RuleSet
from extproc.masking.fingerprint import Fingerprints
from extproc.masking.masker import Masking
from extproc.masking.policy import MaskingPolicy

CACHE = Path.home() / ".cache" / "copilot-extproc" / "rules"
FINGERPRINTS = Fingerprints(b"k" * 32)


@cache
def loaded(*sets: RuleSet) -> Detector:
    return detector.load(sets or [RuleSet("secrets")], CACHE)


@cache
def masking(policy: MaskingPolicy | None = None) -> Masking:
    """Return the masking of a policy, by default one that masks secrets both ways."""
    policy = policy or MaskingPolicy()
    sets = {one.name: RuleSet(one.name, one.file) for one in policy.in_use()} | {"secrets": RuleSet("secrets")}
    return Masking(loaded(*sets.values()), policy, FINGERPRINTS)
