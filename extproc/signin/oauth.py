"""Ask an OAuth endpoint of an issuer as a public client, and read its tokens or its refusal (RFC 6749 section 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from extproc.errors import ExtprocError
from extproc.keys.fetch import FetchFailed, read_bounded
from extproc.secret import Secret
from extproc.signin.discovery import MAX_BYTES, TIMEOUT_SECONDS

_TOKEN = re.compile(r"[!-~]+")  # what can stand in an Authorization header and on one line
_MAX_SHOWN = 300


class OAuthRefused(ExtprocError):
    """Carry the `error` of RFC 6749 section 5.2 or RFC 8628 section 3.5 with what the issuer says of it."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{shown(error)}: {shown(description)}" if description else shown(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave; `expires_in` is the access token's lifetime in seconds."""

    access_token: Secret
    id_token: Secret | None = None
    refresh_token: Secret | None = None
    expires_in: float | None = None


async def post(session: aiohttp.ClientSession, url: str, form: Mapping[str, str]) -> dict[str, object]:
    """Return the JSON object of a 200 answer. Raises OAuthRefused for a refusal, FetchFailed where nobody decided."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with session.post(url, data=form, allow_redirects=False, timeout=timeout) as response:
            status, raw = response.status, await read_bounded(response, MAX_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Only the kind of error: its text can quote the request.
        raise FetchFailed(f"the request failed ({type(error).__name__})") from None
    # An empty answer is what revocation may give (RFC 7009 section 2.2).
    answer = {} if raw == b"" else _object(raw)
    if status == 200 and answer is not None:
        return answer
    code = None if answer is None else answer.get("error")
    if 400 <= status < 500 and answer is not None and isinstance(code, str):
        description = answer.get("error_description")
        raise OAuthRefused(code, description if isinstance(description, str) else "")
    raise FetchFailed("the answer is not a JSON object" if status == 200 else f"the answer has status {status}")


async def request_tokens(session: aiohttp.ClientSession, url: str, form: Mapping[str, str]) -> Tokens:
    """Return the tokens of a grant; raises as `post` does, and ExtprocError for an answer of another form."""
    answer = await post(session, url, form)
    access_token = _token(answer, "access_token")
    if access_token is None:
        raise ExtprocError("the issuer's answer holds no access_token")
    # RFC 6749 section 7.1: a token of a type that is not understood must not be used.
    if str(answer.get("token_type")).lower() != "bearer":
        raise ExtprocError("the issuer's token is not a bearer token")
    return Tokens(access_token, _token(answer, "id_token"), _token(answer, "refresh_token"), _seconds(answer))


def shown(text: str) -> str:
    """Return what an issuer says as one line that cannot steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text[:_MAX_SHOWN])


def _object(raw: bytes | None) -> dict[str, object] | None:
    try:
        value = json.loads(raw or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _token(answer: Mapping[str, object], name: str) -> Secret | None:
    value = answer.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ExtprocError(f"the issuer's {name} is not a token")
    return Secret(value)


def _seconds(answer: Mapping[str, object]) -> float | None:
    value = answer.get("expires_in")
    if value is None:
        return None
    # Some issuers write the number as text.
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ExtprocError("the issuer's expires_in is not a number of seconds")
    return float(value)
