from __future__ import annotations

from pathlib import Path

from extproc.dev import upstream_leak
from tests.detecting import loaded


def test_the_same_seed_draws_the_same_secrets_and_another_one_others() -> None:
    assert upstream_leak.assignments("a") == upstream_leak.assignments("a") != upstream_leak.assignments("b")
    assert upstream_leak.private_key("a") == upstream_leak.private_key("a") != upstream_leak.private_key("b")


def test_the_gateway_finds_what_is_drawn_on_every_line() -> None:
    for seed in map(str, range(10)):
        for line in upstream_leak.assignments(seed).splitlines():
            assert loaded().scan(line.encode()), line.partition("=")[0]


def test_no_secret_stands_in_the_file() -> None:
    assert loaded().scan(Path(upstream_leak.__file__).read_bytes()) == []
