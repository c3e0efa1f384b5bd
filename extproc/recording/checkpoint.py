"""Signed checkpoints of logs. Pure.

A checkpoint says which root a log's Merkle tree had at which size. Its text is that of C2SP `tlog-checkpoint` (origin,
size, root, and one extension line with the time), in the envelope of C2SP `signed-note`, signed with Ed25519:

    gateway.example/pod-1.0.7
    1042
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    at 1760000000

    — gateway.example Az3grnmrIUEDFqHzAElIQCPNoRFRAAdFo47fooyW…

The origin is the signer's name, a slash, and the log: one key signs all logs of an installation, and none of another's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from extproc.errors import ConfigError, ExtprocError

MAX_NOTE_CHARS: Final = 16 * 1024
"""Longest note that is looked at: room for more than a hundred cosignatures."""

_ED25519: Final = b"\x01"  # the signature type of signed-note
_KEY_BYTES: Final = 32
_KEY_HASH_BYTES: Final = 4
_TEXT: Final = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\nat (0|[1-9][0-9]{0,15})\n")
_SIGNATURE: Final = re.compile(r"— ([^ +]+) ([A-Za-z0-9+/]+={0,2})")


class BadCheckpoint(ExtprocError):
    """Say why a note is no checkpoint that can be relied on."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its first `size` entries have this root; said at unix second `at`."""

    origin: str
    size: int
    root: bytes
    at: int

    @property
    def name(self) -> str:
        """The name of the signer that this log belongs to."""
        return self.origin.rpartition("/")[0]

    @property
    def log(self) -> str:
        """The log, as heads have it."""
        return self.origin.rpartition("/")[2]


def origin_of(name: str, log: str) -> str:
    """Return the origin of a log of the signer with this name."""
    return f"{name}/{log}"


def log_of(name: str, origin: str) -> str:
    """Return the log of an origin; raises BadCheckpoint where it is not one of the signer with this name."""
    owner, _, log = origin.rpartition("/")
    if owner != name or not (_is_name(owner) and _is_name(log)):
        raise BadCheckpoint(f"{origin!r} is no log of {name!r}")
    return log


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key of 32 bytes, and the name that it signs under."""

    name: str
    key: bytes

    @property
    def key_hash(self) -> bytes:
        """The first four bytes of a hash over name and key, by which signatures say whose they are (signed-note)."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:_KEY_HASH_BYTES]

    @property
    def vkey(self) -> str:
        """The key as text, as signed-note has it: name, hash and key."""
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Return whether this is the key's signature of the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except InvalidSignature:
            return False
        return True

    @classmethod
    def parse(cls, vkey: str) -> PublicKey:
        """Return the key of a text as `vkey` makes it, blanks around it allowed; raises ConfigError."""
        name, _, rest = vkey.strip().partition("+")
        key_hash, _, encoded = rest.partition("+")
        typed = _base64(encoded)
        if not _is_name(name) or typed is None or len(typed) != 1 + _KEY_BYTES or typed[:1] != _ED25519:
            raise ConfigError("expected an Ed25519 key to check notes with: <name>+<hash>+<key>")
        key = cls(name, typed[1:])
        if key.key_hash.hex() != key_hash:
            raise ConfigError(f"the key to check notes of {name} with was changed: its hash is {key.key_hash.hex()}")
        return key


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs checkpoints; raises ConfigError for a name that notes cannot carry."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ConfigError(f"{self.name!r} cannot sign: expected a name without blanks and plus signs")

    @property
    def public(self) -> PublicKey:
        """What its notes are checked with."""
        return PublicKey(self.name, self.key.public_key().public_bytes_raw())

    @property
    def vkey(self) -> str:
        """What its notes are checked with, as text."""
        return self.public.vkey

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the note; raises BadCheckpoint for a log of another name, or what is no checkpoint at all."""
        log_of(self.name, checkpoint.origin)
        root = base64.b64encode(checkpoint.root).decode()
        text = f"{checkpoint.origin}\n{checkpoint.size}\n{root}\nat {checkpoint.at}\n"
        # What cannot be read back is not signed.
        _parse(text)
        return f"{text}\n{self.signature_line(text)}"

    def signature_line(self, text: str) -> str:
        """Return the line, with its end, that signs a note's text."""
        signature = self.public.key_hash + self.key.sign(text.encode())
        return f"— {self.name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, keys: Sequence[PublicKey]) -> Checkpoint:
    """Return the checkpoint that one of these keys signed for a log of its own; raises BadCheckpoint, which says why.

    A signature by none of the keys does not count; one that says it is by one of them and is not makes the note bad.
    """
    text, signers = open_signed(note, keys)
    checkpoint = _parse(text)
    if checkpoint.name not in {key.name for key in signers}:
        raise BadCheckpoint(
            f"{signers[0].name} signed a checkpoint of {checkpoint.origin!r}, which is no log of its own"
        )
    return checkpoint


def open_signed(note: str, keys: Sequence[PublicKey]) -> tuple[str, list[PublicKey]]:
    """Return the text of a signed note, and which of the keys signed it, at least one; raises BadCheckpoint."""
    text, signatures = _split(note)
    signed_bytes = text.encode()
    signers = []
    for name, signature in signatures:
        claimed = [key for key in keys if key.name == name and key.key_hash == signature[:_KEY_HASH_BYTES]]
        for key in claimed:
            if not key.signed(signed_bytes, signature[_KEY_HASH_BYTES:]):
                raise BadCheckpoint(f"bad signature: the key of {name} did not sign this note")
        signers += claimed
    if not signers:
        names = ", ".join(sorted({name for name, _ in signatures}))
        raise BadCheckpoint(f"unknown signer: no key that is trusted is that of {names[:200]}")
    return text, signers


# The text ends at the last blank line; lines end in a line feed and nothing else (signed-note, "Format").
def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    if len(note) > MAX_NOTE_CHARS:
        raise BadCheckpoint(f"malformed note: it has more than {MAX_NOTE_CHARS} characters")
    body, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise BadCheckpoint("malformed note: expected a text, a blank line and signature lines")
    if any((ord(char) < 0x20 and char != "\n") or 0xD800 <= ord(char) < 0xE000 for char in body):
        raise BadCheckpoint("malformed note: its text has control characters or half surrogates")
    return body + "\n", [_signature(line) for line in lines[:-1].split("\n")]


def _signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.fullmatch(line)
    signature = _base64(match[2]) if match else None
    if match is None or not _is_name(match[1]) or signature is None or len(signature) <= _KEY_HASH_BYTES:
        raise BadCheckpoint("malformed note: expected signature lines: — <name> <base64>")
    return match[1], signature


def _parse(text: str) -> Checkpoint:
    match = _TEXT.fullmatch(text)
    root = _base64(match[3]) if match else None
    if match is None or root is None:
        raise BadCheckpoint(
            "malformed checkpoint: expected an origin, a size, the base64 of a SHA-256, and: at <seconds>"
        )
    checkpoint = Checkpoint(match[1], int(match[2]), root, int(match[4]))
    log_of(checkpoint.name, checkpoint.origin)
    return checkpoint


# Only the one way to write these bytes: no text of a note can be changed and mean the same.
def _base64(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


# signed-note: not empty, no spaces of any kind, no plus; nor what one cannot see.
def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(char in " +" for char in text)
