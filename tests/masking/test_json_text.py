from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.dialect.port import Form
from extproc.masking.channel import Channel
from extproc.masking.finding import Action
from extproc.masking.json_text import JsonChannel, read
from tests.masking.corpus import private_key
from tests.masking.running import PASSWORD, TOKEN, cut, masker, rules, run

KEY = private_key(Random(5))  # noqa: S311 - test data, the same each time
PLAIN = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
SECRET = st.sampled_from(
    [TOKEN, f"see {TOKEN}.", f'"{TOKEN}"', f"\n{TOKEN}\n", KEY, f"x\n{KEY}y", f"é{TOKEN}\U0001f600"]
)
STRINGS = st.one_of(PLAIN, PLAIN, SECRET)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
NAMES = st.one_of(PLAIN, st.sampled_from(["content", "path", "password", "token", "apiKey"]))
TREES = st.recursive(
    st.one_of(SCALARS, STRINGS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


ODD = '"\\ud83dabe0/-{}[]:,\n 1'


def spelled(tree: Any, seed: int, *, ascii_only: bool) -> str:
    """Return `tree` as JSON, with some letters in strings spelled as escapes that nobody needs."""
    random = Random(seed)  # noqa: S311

    def other(char: re.Match[str]) -> str:
        if random.random() < 0.8:
            return char[0]
        return "\\/" if char[0] == "/" and random.random() < 0.5 else f"\\u{ord(char[0]):04{random.choice('xX')}}"

    def respelled(string: re.Match[str]) -> str:
        return re.sub(r"(?<![\\])(?<!\\u)(?<!\\u.)(?<!\\u..)(?<!\\u...)[A-Za-z0-9/_]", other, string[0])

    return re.sub(r'"(?:[^"\\]|\\.)*"', respelled, json.dumps(tree, ensure_ascii=ascii_only))


@given(st.one_of(TREES.map(json.dumps), st.text(alphabet='{}[]:," \\nt/ua0', max_size=12)), st.integers(0, 9))
def test_a_whole_text_reads_as_its_tokens_do_one_by_one(text: str, seed: int) -> None:
    for written in (text, json.dumps({"again": text}), spelled([text], seed, ascii_only=False)):
        assert read(written) == "".join(said_of(written))


def said_of(text: str) -> Iterator[str]:
    """Read a JSON text token by token: what is in strings without its escapes, all else as it is."""
    escape = re.compile(
        r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]", re.DOTALL
    )
    in_string, at = False, 0
    while at < len(text):
        token = escape.match(text, at) if in_string else None
        if token is None:
            in_string ^= text[at] == '"'
            yield text[at]
            at += 1
            continue
        known = token[0][1] in '"\\/bfnrtu'
        yield str(json.loads(f'"{token[0]}"')) if known else token[0][1:]
        at = token.end()


def same_but_for_secrets(before: Any, after: Any) -> None:
    assert type(before) is type(after)
    if isinstance(before, dict):
        assert len(before) == len(after)
        for (name, value), (masked_name, masked_value) in zip(before.items(), after.items(), strict=True):
            assert name == masked_name
            same_but_for_secrets(value, masked_value)
    elif isinstance(before, list):
        assert len(before) == len(after)
        for one, masked_one in zip(before, after, strict=True):
            same_but_for_secrets(one, masked_one)
    elif isinstance(before, str) and (TOKEN in before or "-----BEGIN" in before):
        assert "[MASKED:" in after
    else:
        # What a member called `password` holds may be a number.
        assert before == after or (isinstance(before, int | float) and set(re.findall("[0-9]", repr(after))) >= {"1"})


@given(TREES, st.integers(0, 1000), st.booleans(), st.lists(st.integers(0, 5000), max_size=5))
@settings(max_examples=150, deadline=None)
def test_valid_json_stays_valid_and_only_secrets_are_taken_out(
    tree: Any,
    seed: int,
    ascii_only: bool,  # noqa: FBT001
    places: list[int],
) -> None:
    text = spelled(tree, seed, ascii_only=ascii_only)
    assert json.loads(text) == tree
    masked, found = run(JsonChannel(rules()), [text])
    same_but_for_secrets(tree, json.loads(masked))
    assert run(JsonChannel(rules()), list(text)) == (masked, found)
    assert run(JsonChannel(rules()), cut(text, places)) == (masked, found)


@given(TREES, st.integers(0, 1000), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_whole_text_is_masked_as_in_pieces(tree: Any, seed: int, ascii_only: bool) -> None:  # noqa: FBT001
    text = spelled(tree, seed, ascii_only=ascii_only)
    one = masker()
    masked, found = run(JsonChannel(rules()), [text])
    assert one.text(text, "x", form=Form.JSON) == masked
    assert [finding.rule for finding in one.findings] == [finding.rule for finding in found]


@given(st.text(alphabet=ODD, max_size=80), st.text(alphabet=ODD, max_size=80))
@settings(max_examples=300, deadline=None)
def test_a_whole_text_is_masked_as_in_pieces_whatever_it_is(before: str, after: str) -> None:
    for text in (before, before + TOKEN + after, f'{before}{TOKEN[:9]}\\u00{ord(TOKEN[9]):02x}{TOKEN[10:]}"{after}'):
        assert masker().text(text, "x", form=Form.JSON) == run(JsonChannel(rules()), [text])[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r'{"a": "x\ny\"\\n"}', '{"a": "x\ny"\\n"}'),
        (r'"\ud83d\ude00 \ud83d \u00e9 \/ \q \uZ"', '"\U0001f600 \ud83d é / q \\uZ"'),
        (r'a\nb "c\nd" e\nf "g\n', 'a\\nb "c\nd" e\\nf "g\n'),
        ('"\\', '"\\'),
    ],
)
def test_escapes_are_undone_in_strings_alone(text: str, said: str) -> None:
    assert read(text) == said


def test_text_without_secrets_keeps_its_spelling() -> None:
    text = r'{"a\/b": "\u0041\u00e9\ud83d\ude00 \ud83d \n", "n": [1.0, 1E2, -0, 123456789012345678901234567890]}'
    assert run(JsonChannel(rules()), list(text)) == (text, [])


@pytest.mark.parametrize("joint", ['", "', '": "', "\\n", "\\\\n", '\\"'])
def test_a_secret_between_escapes_is_masked_and_the_quotes_stay(joint: str) -> None:
    text = f'{{"a": "x{joint}{TOKEN}{joint}y"}}'
    masked, _ = run(JsonChannel(rules()), list(text))
    assert masked == text.replace(TOKEN, "[MASKED:github-pat]")


def test_a_member_announces_the_secret_in_its_value() -> None:
    text = json.dumps({"user": "svc", "password": PASSWORD})
    assert json.loads(run(JsonChannel(rules()), list(text))[0]) == {"user": "svc", "password": "[MASKED:password]"}


def test_a_private_key_ends_where_its_string_ends() -> None:
    tree = {"a": KEY[:400], "b": "MIIEpAIBAAKCAQEAMIIEpAIBAAKCAQEA", "c": 1}
    for ascii_only in (True, False):
        masked, _ = run(JsonChannel(rules()), list(json.dumps(tree, ensure_ascii=ascii_only)))
        assert json.loads(masked) == {**tree, "a": "[MASKED:private-key]"}


def test_a_number_that_is_personal_stays_a_number() -> None:
    for text in ('{"card": 4111111111111111}', '{"card":4111111111111111,"n":[1,2]}', '[["x", 4111111111111111]]'):
        masked, found = run(JsonChannel(rules(Action.MASK)), list(text))
        assert len(found) == 1
        assert json.loads(masked) == json.loads(text.replace("4111111111111111", "1111111111111111"))


def test_text_that_is_no_json_is_masked_as_it_stands() -> None:
    for text in (f"run {TOKEN} now", f'"unfinished {TOKEN}', f"\\{TOKEN}", f"{TOKEN}\\u12"):
        masked, _ = run(JsonChannel(rules()), list(text))
        assert TOKEN[4:] not in masked


@given(st.text(alphabet=ODD, max_size=200), st.lists(st.integers(0, 500), max_size=4))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_raise_and_none_is_lost(text: str, places: list[int]) -> None:
    assert run(JsonChannel(rules()), cut(text, places)) == run(JsonChannel(rules()), [text])
    assert run(Channel(rules()), cut(text, places))[0] == run(Channel(rules()), [text])[0]
