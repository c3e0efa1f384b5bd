"""A strict fake of the Blob service for one container under an immutability policy: Put Blob and Get Blob, no more.

Requests must be signed with the account's key ("Authorize with Shared Key") and carry what the service requires;
errors have the service's codes ("Blob Storage error codes").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from aiohttp import web

ACCOUNT: Final = "auditaccount"
KEY: Final = base64.b64encode(b"k" * 32).decode()
CONTAINER: Final = "witness"

_SIGNED: Final = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)
_RANGE: Final = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@dataclass(slots=True)
class BlobService:
    """What is there, by name, what was asked, and what the next requests shall suffer."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    lose_answer: bool = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{account}/{container}/{blob:.+}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        blob = request.match_info["blob"]
        self.asked.append((request.method, blob))
        if self.failures:
            return _error(*self.failures.pop(0))
        if (fault := _fault(request)) is not None:
            return fault
        if request.match_info["container"] != CONTAINER:
            return _error(404, "ContainerNotFound")
        if request.method == "PUT":
            return self._put(request, blob, await request.read())
        if request.method == "GET":
            return self._get(request, blob)
        return _error(405, "UnsupportedHttpVerb")

    def _put(self, request: web.Request, blob: str, content: bytes) -> web.StreamResponse:
        if request.headers.get("x-ms-blob-type") != "BlockBlob" or request.query:
            return _error(400, "MissingRequiredHeader")
        if blob in self.blobs:
            code = "BlobAlreadyExists" if request.headers.get("if-none-match") == "*" else "BlobImmutableDueToPolicy"
            return _error(409, code)
        self.blobs[blob] = content
        if self.lose_answer:
            self.lose_answer = False
            return _error(500, "OperationTimedOut")
        return web.Response(status=201, headers=_headers(content))

    def _get(self, request: web.Request, blob: str) -> web.StreamResponse:
        if (content := self.blobs.get(blob)) is None:
            return _error(404, "BlobNotFound")
        asked = _RANGE.fullmatch(request.headers.get("x-ms-range") or request.headers.get("range") or "")
        if asked is None:
            return web.Response(body=content, headers=_headers(content))
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        if first >= len(content):
            return _error(416, "InvalidRange")
        headers = {**_headers(content), "content-range": f"bytes {first}-{last}/{len(content)}"}
        return web.Response(status=206, body=content[first : last + 1], headers=headers)


def _fault(request: web.Request) -> web.Response | None:
    if not request.headers.get("x-ms-date") or not request.headers.get("x-ms-version"):
        return _error(400, "MissingRequiredHeader")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme != "SharedKey" or not hmac.compare_digest(given, f"{ACCOUNT}:{_signature(request)}"):
        return _error(403, "AuthenticationFailed")
    return None


def _signature(request: web.Request) -> str:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if headers.get("content-length") == "0":
        del headers["content-length"]
    # x-ms-date stands for it.
    headers["date"] = ""
    canonical = sorted((name, value) for name, value in headers.items() if name.startswith("x-ms-"))
    text = "\n".join([request.method, *(headers.get(name, "") for name in _SIGNED), ""])
    text += "".join(f"{name}:{value}\n" for name, value in canonical)
    text += f"/{ACCOUNT}{request.raw_path.partition('?')[0]}"
    text += "".join(f"\n{name.lower()}:{unquote(value)}" for name, value in sorted(request.query.items()))
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


def _headers(content: bytes) -> dict[str, str]:
    return {
        "etag": f'"0x{hashlib.sha256(content).hexdigest()[:15].upper()}"',
        "last-modified": "Thu, 09 Oct 2025 08:53:20 GMT",
        "x-ms-request-id": "00000000-0000-0000-0000-000000000001",
        "x-ms-version": "2021-12-02",
        "x-ms-blob-type": "BlockBlob",
    }


def _error(status: int, code: str) -> web.Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>s3cret text</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml", headers={"x-ms-error-code": code})
