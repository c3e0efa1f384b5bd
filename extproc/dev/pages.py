"""The HTML of the dev issuer: no script, no external asset, every value escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from aiohttp import web

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 10vh auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .5rem; }
.warning { border: 2px solid #b35900; border-radius: .5rem; padding: .5rem 1rem; font-weight: 600; }
ul { list-style: none; padding: 0; }
button, input { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem 1rem; margin: .25rem 0;
  border: 1px solid GrayText; border-radius: .5rem; }
button { text-align: left; cursor: pointer; }
button small { float: right; }
button:focus-visible, input:focus-visible { outline: 3px solid #0969da; outline-offset: 2px; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_WARNING = '<p class="warning" role="note">Development only: no password, no protection. Never expose this server.</p>'


def login_page(
    client_id: str, users: Mapping[str, tuple[str, ...]], fields: Mapping[str, str], origin: str
) -> web.Response:
    """Ask who signs in to `client_id`; `fields` come back with the form, `origin` is where the answer redirects to."""
    hidden = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in fields.items())
    form = f'<form method="post" action="authorize">{hidden}{_user_buttons(users)}</form>'
    # Browsers apply form-action to the redirect that follows the form as well.
    return _page("Sign in", f"<p>Sign in to <strong>{escape(client_id)}</strong> as:</p>{form}", form_origin=origin)


def device_page(users: Mapping[str, tuple[str, ...]], user_code: str) -> web.Response:
    """Ask for the code that the device shows and who signs in there; `user_code` fills the field in."""
    code = (
        '<label for="user_code">Code shown by the program</label>'
        f'<input id="user_code" name="user_code" value="{escape(user_code)}" required autocomplete="off">'
    )
    deny = '<p><button name="deny" value="yes">Refuse the sign-in</button></p>'
    form = f'<form method="post" action="device">{code}<p>Sign in as:</p>{_user_buttons(users)}{deny}</form>'
    return _page("Sign in a device", form)


def message_page(title: str, message: str, *, status: int = 200) -> web.Response:
    """Say one thing."""
    return _page(title, f"<p>{escape(message)}</p>", status=status)


def _user_buttons(users: Mapping[str, tuple[str, ...]]) -> str:
    items = (
        f'<li><button name="user" value="{escape(user)}">{escape(user)} '
        f"<small>{escape(', '.join(groups) or 'no group')}</small></button></li>"
        for user, groups in users.items()
    )
    return f"<ul>{''.join(items)}</ul>"


def _page(title: str, body: str, *, status: int = 200, form_origin: str = "") -> web.Response:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} (development only)</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{_WARNING}{body}</main></body></html>"
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self' {form_origin}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(text=html, content_type="text/html", status=status, headers=headers)
