from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.relay.head import Answer, Tunnel, read_request, read_status, refusal, write_request
from extproc.secret import Secret

PASSWORD = Secret("right")


def basic(text: str) -> str:
    return f"Proxy-Authorization: Basic {base64.b64encode(text.encode()).decode()}"


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


def status_of(found: Tunnel | Answer) -> int:
    assert isinstance(found, Answer)
    return found.status


@pytest.mark.parametrize("authority", ["api.github.com:443", "[::1]:8443", "a:1"])
def test_a_connect_with_the_password_is_a_tunnel(authority: str) -> None:
    asked = head(f"CONNECT {authority} HTTP/1.1", "Host: x", basic("extproc:right"), "user-agent: copilot/1 (linux)")
    assert read_request(asked, PASSWORD) == Tunnel(authority, "copilot/1 (linux)")


def test_a_user_is_of_no_account_and_a_scheme_has_no_case() -> None:
    asked = head("CONNECT a:443 HTTP/1.0", basic("anybody:right").replace("Basic", "bAsIc"))
    assert read_request(asked, PASSWORD) == Tunnel("a:443")


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (basic("extproc:wrong"),),
        (basic("extproc:"),),
        (basic("right"),),
        (basic("extproc:right:more"),),
        ("Proxy-Authorization: Bearer right",),
        ("Proxy-Authorization: Basic not!base64",),
        ("Proxy-Authorization: Basic",),
        ("Authorization: Basic ZXh0cHJvYzpyaWdodA==",),
        (basic("extproc:right"), basic("extproc:right")),
    ],
)
def test_without_the_one_right_password_the_answer_is_407_with_a_challenge(fields: tuple[str, ...]) -> None:
    found = read_request(head("CONNECT a:443 HTTP/1.1", *fields), PASSWORD)
    assert status_of(found) == 407
    assert isinstance(found, Answer)
    assert found.headers["proxy-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("line", ["GET http://a/ HTTP/1.1", "POST / HTTP/1.1"])
def test_plain_http_is_answered_405_with_the_reason(line: str) -> None:
    found = read_request(head(line, basic("extproc:right")), PASSWORD)
    assert status_of(found) == 405
    assert isinstance(found, Answer)
    assert "HTTPS only" in json.loads(found.body)["error"]["message"]
    assert found.headers["allow"] == "CONNECT"


@pytest.mark.parametrize("target", ["a", "a:", ":443", "a:443/x", "http://a:443", "a:b", "u@a:443", "a:1234567"])
def test_a_target_that_is_no_host_and_port_is_400(target: str) -> None:
    assert status_of(read_request(head(f"CONNECT {target} HTTP/1.1", basic("extproc:right")), PASSWORD)) == 400


@pytest.mark.parametrize(
    "line",
    ["", "CONNECT a:443", "connect a:443 HTTP/1.1", "CONNECT  a:443 HTTP/1.1", "CONNECT a:443 HTTP/2", "\x16\x03\x01"],
)
def test_what_is_no_request_line_is_400(line: str) -> None:
    assert status_of(read_request(head(line, basic("extproc:right")), PASSWORD)) == 400


@pytest.mark.parametrize("field", ["no colon", " folded: x", "na me: x", "x: a\nb: c", "x: a\rb", ": x"])
def test_what_is_no_header_is_400(field: str) -> None:
    assert status_of(read_request(head("CONNECT a:443 HTTP/1.1", field, basic("extproc:right")), PASSWORD)) == 400


@given(st.binary(max_size=300))
def test_no_bytes_make_a_tunnel_without_the_password(raw: bytes) -> None:
    assert isinstance(read_request(raw + b"\r\n\r\n", PASSWORD), Answer)
    read_status(raw + b"\r\n\r\n")


@pytest.mark.parametrize("agent", ["", "a" * 257, "caf\xe9"])
def test_a_user_agent_that_does_not_fit_a_header_is_left_out(agent: str) -> None:
    asked = head("CONNECT a:443 HTTP/1.1", basic("extproc:right"), f"user-agent: {agent}")
    assert read_request(asked, PASSWORD) == Tunnel("a:443", None)


def test_the_gateway_is_asked_with_the_token() -> None:
    assert write_request(Tunnel("a:443", "cli/1"), Secret("tok")) == (
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nProxy-Authorization: Bearer tok\r\nUser-Agent: cli/1\r\n\r\n"
    )


def test_an_answer_of_the_gateway_is_read() -> None:
    assert read_status(b"HTTP/1.1 403 Forbidden\r\nContent-Length:  3 \r\n\r\n") == (403, {"content-length": ["3"]})
    assert read_status(b"HTTP/1.1 200\r\n\r\n") == (200, {})


@pytest.mark.parametrize("raw", [b"", b"HTTP/2 200", b"HTTP/1.1 99 x", b"SSH-2.0-x", b"HTTP/1.1 200 OK\r\nbroken"])
def test_what_is_no_answer_is_none(raw: bytes) -> None:
    assert read_status(raw + b"\r\n\r\n") is None


def test_an_answer_says_its_length_and_that_it_is_the_last() -> None:
    raw = refusal(403, "no").encode()
    first, _, body = raw.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert f"content-length: {len(body)}".encode() in first
    assert b"connection: close" in first
