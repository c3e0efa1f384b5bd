from __future__ import annotations

import base64
import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import ConfigError
from extproc.recording.checkpoint import (
    MAX_NOTE_CHARS,
    BadCheckpoint,
    Checkpoint,
    PublicKey,
    Signer,
    log_of,
    open_note,
    open_signed,
    origin_of,
)

NAME = "gateway.example"
SIGNER = Signer(NAME, Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = Signer("other.example", Ed25519PrivateKey.from_private_bytes(b"o" * 32))
CHECKPOINT = Checkpoint(f"{NAME}/pod-1.0.7", 1042, b"r" * 32, 1_760_000_000)
NOTE = SIGNER.sign(CHECKPOINT)
KEYS = [SIGNER.public]

# The example of the package golang.org/x/mod/sumdb/note, its key, and the private one from that package's tests.
NEUMANN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
NEUMANN_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of the specification of signed notes (C2SP signed-note).
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_LINE = (
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# What the Go checksum database signed one day.
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_NOTE = (
    "go.sum database tree\n65209736\n5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=\n\n"
    "— sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=\n"
)

names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="+/"), min_size=1, max_size=20)


def text_of(note: str) -> str:
    return note.rpartition("\n\n")[0] + "\n"


def signed(text: str, *signers: Signer) -> str:
    return text + "\n" + "".join(signer.signature_line(text) for signer in signers)


def test_a_note_has_the_text_of_tlog_checkpoint() -> None:
    root = base64.b64encode(b"r" * 32).decode()
    lines = NOTE.split("\n")
    assert lines[:5] == ["gateway.example/pod-1.0.7", "1042", root, "at 1760000000", ""]
    assert lines[5].startswith("— gateway.example ")
    assert lines[6:] == [""]
    signature = base64.b64decode(lines[5].split(" ")[2])
    assert len(signature) == 4 + 64
    assert signature[:4] == SIGNER.public.key_hash


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        (NEUMANN_KEY, NEUMANN_TEXT, NEUMANN_LINE),
        (EXAMPLE_KEY, "This is an example message.\n", EXAMPLE_LINE),
        (SUMDB_KEY, *SUMDB_NOTE.split("\n\n")),
    ],
)
def test_notes_that_others_signed_are_opened(key: str, text: str, line: str) -> None:
    text = text.removesuffix("\n") + "\n"
    public = PublicKey.parse(key)
    assert public.vkey == key
    assert open_signed(f"{text}\n{line}", [public]) == (text, [public])
    with pytest.raises(BadCheckpoint, match="bad signature"):
        open_signed(f"X{text}\n{line}", [public])


def test_a_note_is_signed_as_others_sign_it() -> None:
    signer = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(NEUMANN_SEED))
    assert signer.vkey == NEUMANN_KEY
    assert signer.signature_line(NEUMANN_TEXT) == NEUMANN_LINE


@given(names, names, st.integers(0, 10**16 - 1), st.binary(min_size=32, max_size=32), st.integers(0, 10**16 - 1))
def test_what_was_signed_is_read_back(name: str, log: str, size: int, root: bytes, at: int) -> None:
    signer = Signer(name, SIGNER.key)
    checkpoint = Checkpoint(origin_of(name, log), size, root, at)
    assert open_note(signer.sign(checkpoint), [PublicKey.parse(signer.vkey)]) == checkpoint
    assert (checkpoint.name, checkpoint.log, log_of(name, checkpoint.origin)) == (name, log, log)


@given(st.data())
def test_no_character_of_a_note_can_be_another(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(NOTE) - 1))
    other = data.draw(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n \r+/=—0A"), st.just("")))
    changed = NOTE[:place] + other + NOTE[place + 1 :]
    if changed != NOTE:
        with pytest.raises(BadCheckpoint):
            open_note(changed, KEYS)


@given(st.text(), st.text())
def test_any_text_is_a_bad_note_and_nothing_worse(before: str, after: str) -> None:
    for note in (before, f"{before}\n\n— {after}\n", f"{text_of(NOTE)}\n— {before} {after}\n"):
        with pytest.raises(BadCheckpoint):
            open_note(note, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}/log\n01\n{'A' * 43}=\nat 1\n",
        f"{NAME}/log\n-1\n{'A' * 43}=\nat 1\n",
        f"{NAME}/log\n\u0661\n{'A' * 43}=\nat 1\n",
        f"{NAME}/log\n1\n{'A' * 42}B=\nat 1\n",
        f"{NAME}/log\n1\n{'A' * 42}==\nat 1\n",
        f"{NAME}/log\n1\n{'A' * 43}=\n",
        f"{NAME}/log\n1\n{'A' * 43}=\nat 1.5\n",
        f"{NAME}/log\n1\n{'A' * 43}=\nat 1\nmore\n",
        f"\n1\n{'A' * 43}=\nat 1\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(BadCheckpoint, match="malformed checkpoint"):
        open_note(signed(text, SIGNER), KEYS)


@pytest.mark.parametrize("origin", ["other.example/log", NAME, f"{NAME}/", f"{NAME}/a/b", f"{NAME}x/log", "/log"])
def test_a_key_signs_for_logs_of_its_own_name_only(origin: str) -> None:
    text = text_of(NOTE).replace(CHECKPOINT.origin, origin)
    with pytest.raises(BadCheckpoint, match="no log of"):
        open_note(signed(text, SIGNER), [*KEYS, OTHER.public])
    with pytest.raises(BadCheckpoint, match="is no log of"):
        SIGNER.sign(dataclasses.replace(CHECKPOINT, origin=origin))
    with pytest.raises(BadCheckpoint, match="is no log of"):
        log_of(NAME, origin)


@pytest.mark.parametrize(
    "wrong", [{"size": -1}, {"root": b"short"}, {"at": -1}, {"origin": f"{NAME}/a\nb"}, {"origin": f"{NAME}/a b"}]
)
def test_what_cannot_be_read_back_is_not_signed(wrong: dict[str, object]) -> None:
    with pytest.raises(BadCheckpoint):
        SIGNER.sign(dataclasses.replace(CHECKPOINT, **wrong))  # type: ignore[arg-type]


def test_cosignatures_by_others_are_passed_over() -> None:
    text = text_of(NOTE)
    cosigned = signed(text, OTHER, SIGNER, OTHER)
    assert open_note(cosigned, KEYS) == CHECKPOINT
    assert open_note(cosigned, [*KEYS, OTHER.public]) == CHECKPOINT
    # Another type of signature, as witnesses make them, is longer.
    assert open_note(NOTE + f"— witness.example {base64.b64encode(b'w' * 76).decode()}\n", KEYS) == CHECKPOINT


def test_the_signature_of_somebody_else_alone_is_not_enough() -> None:
    note = signed(text_of(NOTE), OTHER)
    with pytest.raises(BadCheckpoint, match=r"unknown signer: .*other\.example"):
        open_note(note, KEYS)
    with pytest.raises(BadCheckpoint, match="unknown signer"):
        open_note(NOTE, [])
    with pytest.raises(BadCheckpoint, match=r"other\.example signed .* no log of its own"):
        open_note(note, [*KEYS, OTHER.public])


def test_another_key_of_the_same_name_is_an_unknown_signer() -> None:
    with pytest.raises(BadCheckpoint, match="unknown signer"):
        open_note(NOTE, [Signer(NAME, OTHER.key).public])


def test_the_keys_of_before_and_after_a_change_both_count() -> None:
    newer = Signer(NAME, OTHER.key)
    for signer in (SIGNER, newer):
        assert open_note(signer.sign(CHECKPOINT), [newer.public, SIGNER.public]) == CHECKPOINT


def test_a_bad_signature_by_a_known_key_makes_the_note_bad_although_there_is_a_good_one() -> None:
    bad = SIGNER.signature_line("another text\n")
    for note in (NOTE + bad, text_of(NOTE) + "\n" + bad + SIGNER.signature_line(text_of(NOTE))):
        with pytest.raises(BadCheckpoint, match=r"bad signature: the key of gateway\.example"):
            open_note(note, KEYS)
    short = base64.b64encode(SIGNER.public.key_hash + b"short").decode()
    with pytest.raises(BadCheckpoint, match="bad signature"):
        open_note(f"{NOTE}— {NAME} {short}\n", KEYS)


@pytest.mark.parametrize(
    "note",
    [
        "",
        text_of(NOTE),
        text_of(NOTE) + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "more\n",
        NOTE + "— witness.example AAAA\n",
        NOTE + "— witness.example AAAAAAB=\n",
        NOTE + "— witness+example AAAAAAA=\n",
        NOTE + "— witness\u00a0example AAAAAAA=\n",
        NOTE.replace("—", "-"),
        NOTE.replace("\n", "\r\n"),
        "\t" + NOTE,
        "\ud800" + NOTE,
    ],
)
def test_a_note_of_another_form_is_malformed(note: str) -> None:
    with pytest.raises(BadCheckpoint, match="malformed note"):
        open_note(note, KEYS)


def test_the_size_of_a_note_is_bounded() -> None:
    line = OTHER.signature_line(text_of(NOTE))
    room = (MAX_NOTE_CHARS - len(NOTE)) // len(line)
    assert room > 100
    assert open_note(NOTE + line * room, KEYS) == CHECKPOINT
    with pytest.raises(BadCheckpoint, match="more than 16384 characters"):
        open_note(NOTE + line * (room + 1), KEYS)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\u200bb", "\ud800"])
def test_a_name_that_notes_cannot_carry_does_not_sign(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot sign"):
        Signer(name, SIGNER.key)


def test_a_public_key_may_have_blanks_around_it() -> None:
    assert PublicKey.parse(f" {SIGNER.vkey}\n") == SIGNER.public


@given(st.data())
def test_no_character_of_a_public_key_can_be_another(data: st.DataObject) -> None:
    vkey = SIGNER.vkey
    place = data.draw(st.integers(0, len(vkey) - 1))
    other = data.draw(st.one_of(st.characters(codec="utf-8"), st.sampled_from("+/=0Aa"), st.just("")))
    changed = vkey[:place] + other + vkey[place + 1 :]
    if changed.strip() != vkey:
        with pytest.raises(ConfigError):
            PublicKey.parse(changed)


# Of another length, and of another type of signature, each with the hash that fits.
@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        "",
    ],
)
def test_other_kinds_of_keys_are_told(vkey: str) -> None:
    with pytest.raises(ConfigError, match="expected an Ed25519 key"):
        PublicKey.parse(vkey)


def test_the_private_key_is_not_shown() -> None:
    assert repr(SIGNER) == "Signer(name='gateway.example')"
