from __future__ import annotations

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from extproc.secret import Secret

VALUE = "gho_0123456789abcdef"


def test_only_reveal_shows_the_value() -> None:
    secret = Secret(VALUE)
    assert secret.reveal() == VALUE
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        f"{secret!r}",
        repr([secret]),
    ):
        assert VALUE not in shown


@pytest.mark.parametrize(
    "encode", [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, copy.deepcopy]
)
def test_it_is_not_serialised(encode: object) -> None:
    assert callable(encode)
    with pytest.raises(TypeError):
        encode(Secret(VALUE))


def test_a_traceback_does_not_show_it() -> None:
    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    with pytest.raises(ValueError, match="hidden") as caught:
        fail(Secret(VALUE))
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert VALUE not in "".join(line for line in shown if "VALUE" not in line)


def test_secrets_are_compared_by_value() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE), Secret("other")}) == 2


def test_it_has_no_room_for_anything_else() -> None:
    assert not hasattr(Secret(VALUE), "__dict__")
