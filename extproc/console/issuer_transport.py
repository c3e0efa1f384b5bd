"""How the sign-in's client asks the issuer over HTTP."""

from __future__ import annotations

import ssl

import httpx2

from extproc.signin.discovery import MAX_BYTES


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Ask the issuer, a connection for each request: no proxy of the environment, no redirect, no endless answer."""

    def __init__(self) -> None:
        # Trusts what the operating system, or SSL_CERT_FILE, says, as everything else here does.
        self._context = ssl.create_default_context()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer, read to its end; raises httpx2.HTTPError."""
        async with httpx2.AsyncHTTPTransport(verify=self._context, trust_env=False) as transport:
            answer = await transport.handle_async_request(request)
            if answer.has_redirect_location or answer.headers.get("content-encoding", "identity") != "identity":
                raise httpx2.RemoteProtocolError("the answer is a redirect, or is encoded")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_BYTES:
                    raise httpx2.RemoteProtocolError(f"the answer is longer than {MAX_BYTES} bytes")
            kind = answer.headers.get("content-type", "")
            return httpx2.Response(answer.status_code, headers={"content-type": kind}, content=bytes(body))
