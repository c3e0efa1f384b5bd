from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.echo import MASK, EchoMask
from extproc.secret import Secret

TOKEN = "tid=a1b2c3/d4e5;exp=17:/mac"
GITHUB = "ghu_0123456789abcdef"


def mask_in_pieces(secrets: list[str], pieces: list[bytes]) -> bytes:
    mask = EchoMask(Secret(secret) for secret in secrets)
    return b"".join([*(mask.feed(piece) for piece in pieces), mask.flush()])


def whole_text_replacement(secrets: list[str], text: bytes) -> bytes:
    forms = {form.encode() for secret in secrets for form in (secret, secret.replace("/", "\\/"))}
    longest_first = sorted(forms, key=lambda form: -len(form))
    return re.sub(b"|".join(map(re.escape, longest_first)), MASK, text) if forms else text


# Few letters make overlaps, repetitions and needles inside needles likely.
_SECRET = st.text(alphabet="ab/", min_size=8, max_size=14)


@st.composite
def _secrets_and_chunks(draw: st.DrawFn) -> tuple[list[str], list[bytes]]:
    secrets = draw(st.lists(_SECRET, min_size=0, max_size=3))
    parts = [*secrets, *(secret.replace("/", "\\/") for secret in secrets), *(secret[:-1] for secret in secrets)]
    fragments = st.text(alphabet="ab/\\ ", max_size=12) | st.sampled_from([*parts, "x"])
    text = "".join(draw(st.lists(fragments, max_size=8))).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10)))
    return secrets, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(_secrets_and_chunks())
@example((["aaaaaaaa", "aaaaaaaabb"], [b"aaaaaaaa", b"b", b"aaaaaaaab", b"b"]))
@example((["baaaaaaaab", "aaaaaaaa"], [b"baaaaaaaa", b"a"]))
def test_the_output_is_the_whole_text_replacement_wherever_chunks_are_cut(
    case: tuple[list[str], list[bytes]],
) -> None:
    secrets, chunks = case
    output = mask_in_pieces(secrets, chunks)
    assert output == whole_text_replacement(secrets, b"".join(chunks))
    assert not any(secret.encode() in output for secret in secrets)


@given(_secrets_and_chunks())
def test_only_a_tail_that_may_become_a_secret_is_held_and_no_more_of_it(case: tuple[list[str], list[bytes]]) -> None:
    secrets, chunks = case
    forms = {form.encode() for secret in secrets for form in (secret, secret.replace("/", "\\/"))}
    mask = EchoMask(Secret(secret) for secret in secrets)
    for chunk in chunks:
        mask.feed(chunk)
        assert mask._held == b"" or any(form.startswith(mask._held) and form != mask._held for form in forms)


@pytest.mark.parametrize("size", range(len(TOKEN) + 1))
def test_a_credential_cut_anywhere_is_masked(size: int) -> None:
    text = TOKEN.encode()
    assert (
        mask_in_pieces([TOKEN, GITHUB], [b"data: " + text[:size], text[size:] + b"\n\n"]) == b"data: " + MASK + b"\n\n"
    )


def test_one_byte_at_a_time_gives_the_same_answer() -> None:
    text = f"x{GITHUB}y{TOKEN}z".encode()
    assert mask_in_pieces([TOKEN, GITHUB], [bytes([byte]) for byte in text]) == b"x" + MASK + b"y" + MASK + b"z"


def test_a_credential_inside_json_is_masked_with_escaped_and_with_plain_slashes() -> None:
    plain = json.dumps({"token": TOKEN}).encode()
    escaped = plain.replace(b"/", b"\\/")
    assert mask_in_pieces([TOKEN], [plain]) == mask_in_pieces([TOKEN], [escaped]) == b'{"token": "' + MASK + b'"}'


def test_a_secret_with_quotes_is_masked_as_json_writes_it() -> None:
    secret = 'pass"word\\1234'
    assert mask_in_pieces([secret], [json.dumps([secret]).encode()]) == b'["' + MASK + b'"]'


@pytest.mark.parametrize("chunk", [b"", b"plain words", b"gho_ and ghu_012345 without its end"])
def test_a_chunk_that_needs_no_change_is_passed_on_as_the_same_object(chunk: bytes) -> None:
    mask = EchoMask([Secret(TOKEN), Secret(GITHUB)])
    assert mask.feed(chunk) is chunk
    assert mask.flush() == b""


def test_a_tail_that_turns_out_harmless_is_released_with_the_next_chunk() -> None:
    mask = EchoMask([Secret(GITHUB)])
    assert mask.feed(b"see ghu_0123") == b"see "
    assert mask.feed(b" there") == b"ghu_0123 there"


def test_the_held_tail_is_released_at_the_end() -> None:
    mask = EchoMask([Secret(GITHUB)])
    assert mask.feed(b"see ghu_0123") + mask.flush() == b"see ghu_0123"
    assert mask.flush() == b""


def test_a_header_value_is_masked_without_touching_the_stream() -> None:
    mask = EchoMask([Secret(GITHUB)])
    mask.feed(b"ghu_")
    assert mask.mask_text(f"Bearer {GITHUB}, é") == f"Bearer {MASK.decode()}, é"
    assert mask.flush() == b"ghu_"


def test_a_header_value_without_a_credential_is_the_same_object() -> None:
    value = "text/event-stream; ghu_0123"
    assert EchoMask([Secret(GITHUB)]).mask_text(value) is value


def test_streams_with_the_same_secrets_do_not_share_what_they_hold() -> None:
    one, other = EchoMask([Secret(GITHUB)]), EchoMask([Secret(GITHUB)])
    one.feed(GITHUB[:10].encode())
    assert other.feed(GITHUB[10:].encode()) == GITHUB[10:].encode()


@pytest.mark.parametrize("secret", ["", "1234567"])
def test_a_secret_too_short_to_search_for_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError, match="at least 8 bytes"):
        EchoMask([Secret(GITHUB), Secret(secret)])


def test_without_secrets_everything_passes() -> None:
    mask = EchoMask([])
    assert mask.feed(b"anything") == b"anything"
    assert mask.mask_text("anything") == "anything"


def test_the_secrets_do_not_show_in_repr() -> None:
    assert GITHUB not in repr(EchoMask([Secret(GITHUB)]))
