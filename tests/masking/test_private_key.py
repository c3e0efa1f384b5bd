from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.masking import private_key
from tests.masking import corpus

KEY = corpus.private_key(Random(4))  # noqa: S311 - test data, the same each time
BEGIN, _, REST = KEY.partition("\n")


def followed(text: str, at: int) -> tuple[int, bool | None]:
    return private_key.key_end(text, at)


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    ],
)
def test_the_first_line_is_found_and_every_beginning_of_it_may_become_one(line: str) -> None:
    found = private_key.begin(f"a-{line}x", 0)
    assert found is not None
    assert found[0] == line
    for end in range(1, len(line)):
        assert private_key.cut_begin(f"ab {line[:end]}", 0) == 3


@pytest.mark.parametrize(
    "text", ["-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----", "a - b", "--", "-----BEGIN x"]
)
def test_other_lines_begin_no_key(text: str) -> None:
    assert private_key.begin(text, 0) is None
    assert private_key.cut_begin(f"{text} and more", 0) == len(text) + 9


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("\n", "\r\n"),
        KEY.replace("\n", "\\n"),
        KEY.replace("\n", '\\n" +\n    "'),
        KEY.replace("\n", "\n  "),
        KEY.replace("\n", "\n> "),
        KEY.replace("\n", "\n  12\t"),
        KEY.replace("\n", "\n   107\u2192"),
        KEY.replace("\n", "\n8: "),
        KEY.replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0011\n\n", 1),
    ],
)
def test_a_key_is_followed_to_its_last_line_however_its_lines_are_joined(text: str) -> None:
    at = len(BEGIN)
    for end in range(at, at + 16):
        assert private_key.confirmed(text[:end], at) is None
    start = private_key.confirmed(text, at)
    assert start is not None
    end, ends = followed(text, start)
    assert ends is True
    assert end == text.rindex("-----") + 5


def test_prose_after_the_first_line_is_no_key() -> None:
    assert private_key.confirmed(f"{BEGIN} is how it begins", len(BEGIN)) == 0


def test_a_key_without_its_last_line_ends_where_other_text_begins() -> None:
    text = KEY[: KEY.index("-----END")] + "and prose follows"
    end, ends = followed(text, len(BEGIN))
    assert ends is True
    assert text[end:].strip().startswith(("and prose", text[end:].strip()[:4]))
    assert "and prose" in text[end:]


def test_the_base64_alone_tells_one_key_from_another() -> None:
    body = private_key.body(KEY)
    assert body == "".join(REST.splitlines()[:-1])
    assert private_key.body(KEY.replace("\n", '\\n" + "')) == body


@pytest.mark.parametrize(
    "unit", ["A-B: x\\n", " \\n\\r\"'+", "-----BEGIN ", "-", "A: ", "aaaaaaaaaaaaaaa ", "\\", "-----END A"]
)
def test_no_text_takes_more_than_linear_time(unit: str) -> None:
    text = BEGIN + unit * (200_000 // len(unit))
    start = time.process_time()
    private_key.begin(text, 1)
    private_key.confirmed(text, len(BEGIN))
    private_key.key_end(text, len(BEGIN))
    private_key.cut_begin(text, 0)
    assert time.process_time() - start < 1


@given(st.text(alphabet='-BEGINRSA PRIVATEKY\\n"+:=\n0az', max_size=200), st.integers(0, 200))
def test_what_may_become_a_first_line_only_moves_on(text: str, at: int) -> None:
    assert private_key.cut_begin(text[:at], 0) <= private_key.cut_begin(text, 0)
