from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.port import BadRequest
from extproc.dialect.request_body import MAX_DEPTH, read_fields

NAMES = frozenset({"model", "tools"})


def test_only_the_asked_fields_that_are_there_are_returned() -> None:
    assert read_fields(b' { "model" : "m" , "other" : 1e999 } \n', NAMES) == {"model": "m"}
    assert read_fields(b"{}", NAMES) == {}


BAD = {
    "empty": (b"", "the body is empty; expected a JSON object"),
    "blank": (b" \n", "the body is empty; expected a JSON object"),
    "a list": (b"[]", "the body: expected a JSON object"),
    "null": (b"null", "the body: expected a JSON object"),
    "cut": (b'{"model":"m"', "the body: Input data was truncated"),
    "trailing": (b"{} {}", "the body: JSON is malformed: trailing characters (byte 4)"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "the body: JSON is malformed: invalid character (byte 0)"),
    "NaN": (b'{"model":NaN}', "the body: JSON is malformed: invalid character (byte 9)"),
    "Infinity in another field": (b'{"x":[-Infinity]}', "the body: JSON is malformed: invalid character (byte 7)"),
    "a lone surrogate": (b'{"x":"\\udc00"}', "the body: JSON is malformed: invalid utf-16 surrogate pair (byte 12)"),
    "a raw line feed in a string": (b'{"x":"\n"}', "the body: JSON is malformed: invalid character (byte 6)"),
    "not UTF-8": (b'{"x":"\xff"}', "the body is not UTF-8; expected a JSON object"),
    "an encoded surrogate": (b'{"x":"\xed\xa0\x80"}', "the body is not UTF-8; expected a JSON object"),
    "UTF-16": ("{}".encode("utf-16"), "the body is not UTF-8; expected a JSON object"),
    "a number out of range": (b'{"tools":[1e999]}', "the body has a number that is out of range"),
    "twice": (b'{"model":"a","x":0,"model":"b"}', "the body has a top-level field twice"),
    "twice the same": (b'{"model":"a","model":"a"}', "the body has a top-level field twice"),
    "twice, a number that begins alike": (b'{"x":12,"x":1}', "the body has a top-level field twice"),
    "twice, once escaped": (b'{"model":"a","mo\\u0064el":"a"}', "the body has a top-level field twice"),
    "twice, unknown to us": (b'{"x":{},"y":1,"x":{}}', "the body has a top-level field twice"),
    "another case": (b'{"model":"a","Model":"b"}', "model: expected the name in lower case"),
    "another case alone": (b'{"tOOls":[]}', "tools: expected the name in lower case"),
    "a letter that folds to one of ours": ('{"tool\u017f":[]}'.encode(), "tools: expected the name in lower case"),
    "deeper than Python's stack": (b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "the body is nested too deeply"),
    "deep objects": (b'{"x":' * 99_999 + b"0" + b"}" * 99_999, "the body is nested too deeply"),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_refused_with_a_message_that_quotes_nothing_of_it(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_fields(body, NAMES)
    assert str(refused.value) == message


def test_nesting_is_allowed_up_to_its_bound() -> None:
    def body(depth: int) -> bytes:
        return b'{"tools":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert read_fields(body(MAX_DEPTH), NAMES)
    with pytest.raises(BadRequest, match="nested too deeply"):
        read_fields(body(MAX_DEPTH + 1), NAMES)


SPACE = st.sampled_from(["", " ", "\n\t", "\r\n "])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 199) | st.text('a"\\{,:é', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"}', max_size=2), inner, max_size=2),
    max_leaves=6,
)
PAIRS = st.lists(st.tuples(st.text('ab",:{}\\é', max_size=2), VALUES, SPACE), max_size=6)


@given(pairs=PAIRS, ascii_only=st.booleans())
def test_a_body_is_refused_as_having_a_field_twice_exactly_when_it_has(
    *, pairs: list[tuple[str, Any, str]], ascii_only: bool
) -> None:
    text = ",".join(
        f"{space}{json.dumps(name, ensure_ascii=ascii_only)}{space}:{space}{json.dumps(value)}{space}"
        for name, value, space in pairs
    )
    names = {name for name, _, _ in pairs}
    body = f"{{{text}}}".encode()
    if len(names) == len(pairs):
        assert read_fields(body, frozenset()) == {}
    else:
        with pytest.raises(BadRequest, match="twice"):
            read_fields(body, frozenset())


@given(st.binary(max_size=40) | st.text('{}[]":,\\1e model', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        fields = read_fields(body, NAMES)
    except BadRequest:
        return
    assert fields == {name: value for name, value in json.loads(body).items() if name in NAMES}
