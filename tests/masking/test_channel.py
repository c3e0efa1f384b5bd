from __future__ import annotations

import sys
import time
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from extproc.masking.channel import CONTEXT_CHARS, SEGMENT_CHARS, WINDOW_CHARS, Channel
from extproc.masking.finding import Action
from tests.masking.corpus import harmless, private_key, samples
from tests.masking.running import OURS, PASSWORD, TOKEN, cut, rules, run

RANDOM = Random(3)  # noqa: S311 - test data, the same each time
SAMPLES = list(samples(3))
HARMLESS = list(harmless(3))
KEY = private_key(RANDOM)
LONG_JWT = "eyJhbGciOiJSUzI1NiJ9.eyJ" + "".join(RANDOM.choices("abcXYZ0189_-", k=10_000)) + ".c2lnbmF0dXJlMTIz"

PIECES = st.one_of(
    st.sampled_from([sample.text for sample in SAMPLES]),
    st.sampled_from([sample.secret for sample in SAMPLES]),
    st.sampled_from(HARMLESS),
    st.sampled_from([KEY, KEY[:300], KEY[200:], "-----BEGIN RSA PRIVATE KEY-----", OURS, TOKEN, LONG_JWT[:900]]),
    st.sampled_from(["password", "token: ", "Bearer ", "ghp_", "sk-", "é", "\u00a0", "\ud83d", "\0", "x" * 300, "\\n"]),
    st.text(max_size=40),
)
SEPARATORS = st.sampled_from(["", " ", "\n", "\r\n", '"', "'", "=", ": ", ";", "&", ", ", "\\n", "."])
TEXTS = st.lists(st.tuples(PIECES, SEPARATORS), max_size=7).map(lambda parts: "".join(a + b for a, b in parts))


@pytest.mark.parametrize("personal", [Action.OFF, Action.MASK])
@given(text=TEXTS, places=st.lists(st.integers(0, 20_000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_however_a_text_is_cut_the_masked_text_and_the_findings_are_the_same(
    personal: Action, text: str, places: list[int]
) -> None:
    whole = run(Channel(rules(personal)), [text])
    assert run(Channel(rules(personal)), list(text)) == whole
    assert run(Channel(rules(personal)), cut(text, places)) == whole


@pytest.mark.parametrize("before", [*range(CONTEXT_CHARS - 4, CONTEXT_CHARS + 4), SEGMENT_CHARS, WINDOW_CHARS - 20])
@pytest.mark.parametrize("pad", ["x", "y "])
def test_at_the_edges_of_windows_a_secret_is_masked_the_same_whole_and_in_pieces(before: int, pad: str) -> None:
    for joint in (" ", "\n", "", '"', "é"):
        text = (pad * before)[:before] + joint + f'password = "{PASSWORD}" {TOKEN} after'
        whole, found = run(Channel(rules()), [text])
        assert run(Channel(rules()), list(text)) == (whole, found)
        assert PASSWORD not in whole
        assert TOKEN not in whole


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.provider}-{sample.form}")
def test_nothing_of_a_secret_leaves_before_it_is_masked(sample: object) -> None:
    text: str = sample.text  # type: ignore[attr-defined]
    masked, _ = run(Channel(rules()), [text])
    channel = Channel(rules())
    left = ""
    at = 0
    for char in [*text, None]:
        for op in channel.finish() if char is None else channel.feed(char):
            left += text[at : at + op.count] if op.text is None else op.text
            at += op.count
        # What left is never more than what the masked text shows.
        assert masked.startswith(left)
    assert left == masked


def test_every_sample_that_the_detector_finds_is_masked_in_pieces() -> None:
    missed = []
    for sample in SAMPLES:
        if rules().scan(sample.text.encode(), 0):
            masked, _ = run(Channel(rules()), list(sample.text))
            if sample.secret in masked:
                missed.append(sample)
    assert not missed


def test_harmless_text_passes_as_it_is() -> None:
    for text in HARMLESS:
        assert run(Channel(rules()), list(text)) == (text, [])


def test_words_that_can_begin_no_secret_leave_at_once_and_all_others_with_the_next_word() -> None:
    channel = Channel(rules())
    for word in ("The", "quick", "brown", "function", "looks", "at", "how", "it", "works", "and", "returns", "what"):
        channel.feed(word)
        assert channel.waiting <= len(word)
        channel.feed(" ")
        assert channel.waiting == 0


def test_a_long_json_web_token_is_masked_to_its_end_and_no_further() -> None:
    for text in (f"It is {LONG_JWT} there", f"It is {LONG_JWT}, there", "x" * 3000 + f".{LONG_JWT} there"):
        whole = run(Channel(rules()), [text])
        assert run(Channel(rules()), list(text)) == whole
        assert whole[0].endswith("[MASKED:jwt] there") or whole[0].endswith("[MASKED:jwt], there")
        assert "eyJhbGci" not in whole[0]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"Authorization: Bearer  {TOKEN[4:]}\n", "Authorization: Bearer  [MASKED:bearer-token]\n"),
        (f"curl -H 'Authorization: Bearer {TOKEN[4:]}' x", "curl -H 'Authorization: Bearer [MASKED:bearer-token]' x"),
        (f"password :  \t '{PASSWORD}'", "password :  \t '[MASKED:password]'"),
        (
            "A=a;Password=hT7kd02mQ!z;Pwd=zz91!QQwk;",
            "A=a;Password=[MASKED:connection-string-password];Pwd=[MASKED:connection-string-password];",
        ),
        (f"a line\\n{TOKEN}\\nmore", "a line\\n[MASKED:github-pat]\\nmore"),
        ("a line\\nr8_wlkjccAsDKN6QGXVHq4enmjFaN2KrQl6ZZQg2 x", "a line\\n[MASKED:replicate-api-token] x"),
        (f"x{TOKEN} y", "xghp_[MASKED:github-pat] y"),
        (f"x {OURS} y", "x [MASKED:gateway-credential] y"),
        (f"x{OURS} y", "xgw[MASKED:gateway-credential] y"),
        ('key="Password" value="aB3!x9"', 'key="Password" value="[MASKED:password-attribute]"'),
        (f"Ä {TOKEN}ß", "Ä [MASKED:github-pat]ß"),
    ],
)  # fmt: skip
def test_it_is_masked_like_this_whole_and_in_pieces(text: str, masked: str) -> None:
    assert run(Channel(rules()), [text])[0] == masked
    assert run(Channel(rules()), list(text))[0] == masked


@pytest.mark.parametrize(
    "text", ['a68dca43"4111 1111 1111 1111 z', "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"]
)
def test_numbers_in_groups_are_masked_whole_and_in_pieces(text: str) -> None:
    whole, found = run(Channel(rules(Action.MASK)), [text])
    assert len(found) == 1
    assert "0" not in whole.partition('"')[2]
    assert run(Channel(rules(Action.MASK)), list(text)) == (whole, found)


def test_a_private_key_is_masked_from_its_first_line_on_though_it_never_ends() -> None:
    channel = Channel(rules())
    left = "".join(
        op.text or "" if op.text is not None else "?" for char in f"see\n{KEY[:700]}" for op in channel.feed(char)
    )
    assert "[MASKED:private-key]" in left
    assert channel.waiting < 100
    masked, found = run(Channel(rules()), list(f"see\n{KEY}end"))
    assert masked == "see\n[MASKED:private-key]\nend"
    assert [one.rule for one in found] == ["private-key"]


def test_what_policy_only_observes_is_found_and_passes() -> None:
    text = f"It is {TOKEN}.\n{KEY}"
    masked, found = run(Channel(rules(Action.OFF, Action.OBSERVE)), list(text))
    assert masked == text
    assert [one.rule for one in found] == ["github-pat", "private-key"]
    assert text[found[0].offset :].startswith(TOKEN)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("a1B" * 1_700_000, 4096),
        ("-----BEGIN PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 320_000, 4096),
        ("-----BEGIN PRIVATE KEY-----\n" + f"{KEY[30:90]}\n" * 2000, 7),
        ("-----BEGIN PRIVATE KEY-----" * 2000, 11),
        ("A-B: x\n" * 10_000, 3),
        ("a1B2" * 10_000, 1),
        ("a" * 50_000, 1),
        ("-" * 50_000, 1),
        ("eyJhbGciOiJSUzI1NiJ9.eyJ" + "a1B2c3D4" * 10_000, 3),
    ],
    ids=["word", "key", "lines", "begins", "headers", "letters", "as", "dashes", "token"],
)
def test_what_is_held_is_bounded_and_the_time_is_linear(text: str, size: int) -> None:
    channel = Channel(rules())
    start = time.process_time()
    most = 0
    for at in range(0, len(text), size):
        channel.feed(text[at : at + size])
        most = max(most, channel.waiting)
    assert most <= WINDOW_CHARS + size
    held = sum(sys.getsizeof(getattr(channel, name)) for name in Channel.__slots__)
    assert held < 8 * WINDOW_CHARS
    channel.finish()
    # Some 20 µs a piece, ten times that on a busy machine; quadratic time would be minutes.
    assert time.process_time() - start < 1 + len(text) / size * 400e-6 + len(text) * 1e-6


def test_many_secrets_close_together_are_all_masked_in_linear_time() -> None:
    text = f"password='{PASSWORD}' {TOKEN}\n" * 300
    start = time.process_time()
    whole, found = run(Channel(rules()), [text])
    assert time.process_time() - start < 5
    assert whole == "password='[MASKED:password]' [MASKED:github-pat]\n" * 300
    assert len(found) == 600
    assert run(Channel(rules()), cut(text, list(range(0, len(text), 13)))) == (whole, found)


def test_offsets_count_in_the_masked_text() -> None:
    masked, found = run(Channel(rules()), [f"é {TOKEN} and {TOKEN}"])
    assert [masked[one.offset :].startswith("[MASKED:github-pat]") for one in found] == [True, True]


@given(st.text(alphabet=st.characters(), max_size=300))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_it_raise(text: str) -> None:
    assert len(run(Channel(rules(Action.MASK)), list(text))[0]) > 0 or not text


def test_a_large_text_without_secrets_passes_as_it_is() -> None:
    text = "".join(islice((line for line in HARMLESS * 20 if not rules().suspects(line.encode())), 400))
    assert run(Channel(rules()), [text]) == (text, [])


@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_words_that_are_too_short_for_a_secret_need_not_be_scanned(text: str) -> None:
    assert rules().anchors.shortest >= 8
    scanned = structs.replace(rules(), anchors=replace(rules().anchors, shortest=0))
    assert run(Channel(rules()), [text]) == run(Channel(scanned), [text])
