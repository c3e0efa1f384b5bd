from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.desk import Desk, opened


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        yield one


@pytest.mark.parametrize("path", ["/", "/configuration", "/sessions/none", "/nothing", "/static/console.js", "/trace"])
async def test_every_answer_has_the_security_headers_once(desk: Desk, path: str) -> None:
    headers = (await desk.get(path, "alice")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")


@pytest.mark.parametrize("path", ["/", "/sessions", "/approvals", "/findings", "/trace"])
async def test_no_page_has_anything_inline_or_of_another_origin(desk: Desk, path: str) -> None:
    html = (await desk.get(path, "carol")).text
    assert re.findall(r"<style|style=|\son[a-z]+=|javascript:", html) == []
    assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', html) == []
    assert re.findall(r"<script(?![^>]*(?:src=\"/static/|type=\"application/json\"))", html) == []


async def test_what_is_not_there_and_what_is_not_ones_own_look_the_same(desk: Desk) -> None:
    answer = await desk.get("/exchanges/none", "alice")
    assert (answer.status_code, "There is nothing here that you may see" in answer.text) == (404, True)
    assert (await desk.get("/nothing", "alice")).status_code == 404
    assert (await desk.get("/../app.py", "alice")).status_code == 404
    assert (await desk.get("/static/..%2fapp.py", "alice")).status_code == 404


async def test_an_error_of_a_live_part_is_a_sentence(desk: Desk) -> None:
    answer = await desk.get("/exchanges/none", "alice", part=True)
    assert (answer.status_code, "<" in answer.text) == (404, False)


async def test_a_record_that_cannot_be_read_is_said_to_be_so_without_details(desk: Desk) -> None:
    desk.places.record.unlink()
    answer = await desk.get("/sessions", "carol")
    assert (answer.status_code, "cannot be read at the moment" in answer.text) == (503, True)
    assert str(desk.places.record) not in answer.text


async def test_the_console_lives_without_a_session_and_the_api_is_apart(desk: Desk) -> None:
    assert (await desk.get("/healthz", None)).text == "ok\n"
    assert (await desk.get("/api/v1/sessions", "carol")).text == "no API here"
