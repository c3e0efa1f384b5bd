from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.masking.fingerprint import KEY_BYTES, Fingerprints

KEY = bytes(range(KEY_BYTES))


@given(st.text())
def test_a_fingerprint_is_32_hex_digits_and_the_same_for_text_and_its_utf_8(secret: str) -> None:
    found = Fingerprints(KEY).of(secret)
    assert re.fullmatch("[0-9a-f]{32}", found)
    assert found == Fingerprints(KEY).of(secret.encode())


@given(st.binary(), st.binary())
def test_secrets_have_the_same_fingerprint_only_if_they_are_the_same(one: bytes, other: bytes) -> None:
    made = Fingerprints(KEY)
    assert (made.of(one) == made.of(other)) is (one == other)


# Changing this value would cut every search off from what was recorded before.
def test_a_fingerprint_never_changes_with_a_version() -> None:
    expected = hmac.new(KEY, b"extproc finding fingerprint v1\0hunter2", hashlib.sha256).hexdigest()[:32]
    assert Fingerprints(KEY).of("hunter2") == expected == "ff6205a1f1dfdf3f794f420474b0cdff"


def test_another_key_and_a_bare_hash_give_something_else() -> None:
    found = Fingerprints(KEY).of("hunter2")
    assert found != Fingerprints(bytes(KEY_BYTES)).of("hunter2")
    assert found != hmac.new(KEY, b"hunter2", hashlib.sha256).hexdigest()[:32]


def test_half_a_character_has_a_fingerprint_too() -> None:
    assert Fingerprints(KEY).of("a\ud800") != Fingerprints(KEY).of("a\udfff")


@pytest.mark.parametrize("length", [0, 16, KEY_BYTES - 1])
def test_a_short_key_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"at least 32 bytes, got {length}"):
        Fingerprints(bytes(length))


def test_the_key_is_not_shown_and_not_serialised() -> None:
    made = Fingerprints(b"K" * KEY_BYTES)
    assert "KKK" not in f"{made!r} {made}"
    for spread in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError):
            spread(made)
