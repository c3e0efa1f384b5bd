from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import StoreUnavailable
from extproc.keys.wrapping_key import WrappingKey
from extproc.recording.entry import WrappedKey
from extproc.recording.envelope import CannotOpen, DataKey, Envelope

MASTER = WrappingKey(b"M" * 32)


class Counting:
    """Wraps with `MASTER`; random bytes are predictable, different for each call."""

    def __init__(self) -> None:
        self.unwrapped = 0
        self.drawn = 0

    def unwrap(self, wrapped: bytes) -> bytes:
        self.unwrapped += 1
        return MASTER.unwrap(wrapped)

    def random(self, size: int) -> bytes:
        self.drawn += 1
        return hashlib.shake_256(b"%d" % self.drawn).digest(size)

    def envelope(self) -> Envelope:
        return Envelope(MASTER.wrap, self.unwrap, self.random)


def stored(key: DataKey) -> WrappedKey:
    return WrappedKey(key.id, key.session, key.wrapped)


KEY = Counting().envelope().new_key("s1", "k1")


@given(st.binary(max_size=3000))
def test_what_is_protected_comes_back_and_the_same_gives_the_same(plain: bytes) -> None:
    protected = KEY.protect(plain)
    assert KEY.protect(plain) == protected
    assert len(protected) == len(plain) + 16
    assert KEY.reveal(protected) == plain
    if len(plain) > 8:
        assert plain not in protected


def test_encryption_is_that_of_rfc_5297_over_one_associated_datum() -> None:
    # Computed with the definition of section 2.6, S2V over the session's name and the text, by another implementation.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 - the oracle's
    from cryptography.hazmat.primitives.cmac import CMAC  # noqa: PLC0415

    secret = Counting().random(64)

    def cmac(data: bytes) -> int:
        made = CMAC(algorithms.AES(secret[:32]))
        made.update(data)
        return int.from_bytes(made.finalize())

    def doubled(value: int) -> int:
        return (value << 1) % (1 << 128) ^ (0x87 if value >> 127 else 0)

    text = b"text of more than sixteen bytes"
    digest = doubled(cmac(b"\0" * 16)) ^ cmac(b"s1")
    tag = cmac((int.from_bytes(text) ^ digest).to_bytes(len(text))).to_bytes(16)
    counter = int.from_bytes(tag) & ~(1 << 63) & ~(1 << 31)
    cipher = Cipher(algorithms.AES(secret[32:]), modes.CTR(counter.to_bytes(16))).encryptor()
    assert KEY.protect(text) == tag + cipher.update(text) + cipher.finalize()


def test_each_data_key_is_another() -> None:
    envelope = Counting().envelope()
    one, other = envelope.new_key("s1", "k1"), envelope.new_key("s1", "k2")
    assert one.wrapped != other.wrapped
    assert one.protect(b"same") != other.protect(b"same")


def test_a_stored_key_opens_and_is_unwrapped_once() -> None:
    counting = Counting()
    protected = KEY.protect(b"text")
    envelope = counting.envelope()
    for _ in range(3):
        key = envelope.open(stored(KEY))
        assert (key.id, key.session, key.wrapped) == ("k1", "s1", KEY.wrapped)
        assert key.reveal(protected) == b"text"
    assert counting.unwrapped == 1


def test_the_keys_that_are_kept_open_are_bounded() -> None:
    counting = Counting()
    envelope = counting.envelope()
    many = [stored(envelope.new_key(f"s{number}", "k")) for number in range(1001)]
    for wrapped in many:
        envelope.open(wrapped)
    envelope.open(many[-1])
    assert counting.unwrapped == 1001
    envelope.open(many[0])
    assert counting.unwrapped == 1002


@pytest.mark.parametrize("change", [b"", b"x", b"x" * 100, KEY.protect(b"text")[:-1], KEY.protect(b"text") + b"\0"])
def test_what_was_changed_is_not_revealed(change: bytes) -> None:
    with pytest.raises(CannotOpen, match="not encrypted for session s1 with data key k1, or was changed"):
        KEY.reveal(change)


def test_another_sessions_bytes_are_not_revealed_even_with_its_key_at_hand() -> None:
    envelope = Counting().envelope()
    moved = envelope.open(WrappedKey("k1", "s2", KEY.wrapped))
    with pytest.raises(CannotOpen, match="session s2"):
        moved.reveal(KEY.protect(b"text"))


def test_a_key_that_cannot_be_unwrapped_is_named_and_asked_for_again() -> None:
    counting = Counting()
    envelope = counting.envelope()
    for _ in range(2):
        with pytest.raises(CannotOpen, match="data key k1 of session s1 cannot be opened: the key-encryption key here"):
            envelope.open(WrappedKey("k1", "s1", b"x" * 72))
    assert counting.unwrapped == 2
    with pytest.raises(CannotOpen, match="data key k1 of session s1 cannot be opened: it has 32 bytes, not 64"):
        envelope.open(WrappedKey("k1", "s1", MASTER.wrap(b"x" * 32)))


def test_a_key_service_that_is_away_is_not_taken_for_a_wrong_key() -> None:
    def away(_: bytes) -> bytes:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable, match="away"):
        Envelope(MASTER.wrap, away, Counting().random).open(stored(KEY))


def test_nothing_that_is_shown_has_key_bytes() -> None:
    secret = Counting().random(64)
    shown = repr(KEY) + str(KEY)
    assert "AESSIV" not in shown
    assert repr(secret)[2:10] not in shown
    assert secret.hex()[:8] not in shown
