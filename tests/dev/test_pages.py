from __future__ import annotations

import base64
import hashlib
import re

from aiohttp import web

from extproc.dev.pages import device_page, login_page, message_page

EVIL = "\"'><script>alert(1)</script>&"


def _text(page: web.Response) -> str:
    assert page.text is not None
    return page.text


def test_no_value_becomes_markup() -> None:
    users = {EVIL: (EVIL,)}
    pages = [
        login_page(EVIL, users, {EVIL: EVIL}, "http://127.0.0.1:1"),
        device_page(users, EVIL),
        message_page(EVIL, EVIL),
    ]
    for page in pages:
        assert "<script" not in _text(page)
        assert EVIL not in _text(page)
        assert "&lt;script&gt;" in _text(page)


def test_every_page_says_development_only_and_allows_only_its_own_style() -> None:
    for page in [login_page("c", {"alice": ()}, {}, "http://127.0.0.1:1"), device_page({}, ""), message_page("t", "m")]:
        text, policy = _text(page), page.headers["Content-Security-Policy"]
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
        assert style is not None
        assert f"'sha256-{base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()}'" in policy
        assert policy.startswith("default-src 'none'; ")
        assert "Development only" in text
        assert 'lang="en"' in text
        assert re.search(r"""(src|href|style)=|https?:""", text) is None


def test_a_form_may_lead_to_the_clients_origin_and_nowhere_else() -> None:
    policy = login_page("c", {}, {}, "http://127.0.0.1:7").headers["Content-Security-Policy"]
    assert "form-action 'self' http://127.0.0.1:7;" in policy
