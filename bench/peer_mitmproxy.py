"""Make mitmproxy do the same job as far as it can: mask secrets both ways, append every exchange to a file.

`mitmdump -s peer_mitmproxy.py`, in the folder where `record.jsonl` is to be. It runs in mitmproxy's own environment.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

# The kinds of secrets that are met most, the way a rule file of this kind of addon has them.
_SECRETS = re.compile(
    rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82}|AKIA[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,72}"
    rb"|sk-[A-Za-z0-9_-]{20,128}|AIza[A-Za-z0-9_-]{35}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]+?-----END [A-Z ]*PRIVATE KEY-----"
)
_MASKED = b"[MASKED]"
_PIECES = "bench.pieces"

# Open as long as the process.
_record = Path("record.jsonl").open("a", encoding="utf-8")  # noqa: SIM115


def request(flow: Any) -> None:  # noqa: ANN401 - mitmproxy's types are not installed here
    """Mask the prompt."""
    flow.request.content = _SECRETS.sub(_MASKED, flow.request.content)


def responseheaders(flow: Any) -> None:  # noqa: ANN401 - as above
    """Let streams through as they come, each piece masked on its own and kept for the record."""
    if flow.response.headers.get("content-type", "").startswith("text/event-stream"):
        pieces: list[bytes] = []
        flow.metadata[_PIECES] = pieces

        def passed(data: bytes) -> bytes:
            masked = _SECRETS.sub(_MASKED, data)
            pieces.append(masked)
            return masked

        flow.response.stream = passed


def response(flow: Any) -> None:  # noqa: ANN401 - as above
    """Mask the answer where it is whole, and append the exchange."""
    if _PIECES in flow.metadata:
        answer = b"".join(flow.metadata[_PIECES])
    else:
        answer = flow.response.content = _SECRETS.sub(_MASKED, flow.response.content)
    line = {
        "at": time.time(),
        "client": flow.client_conn.peername[0],
        "method": flow.request.method,
        "path": flow.request.path,
        "request": flow.request.content.decode("utf-8", "replace"),
        "status": flow.response.status_code,
        "answer": answer.decode("utf-8", "replace"),
    }
    _record.write(json.dumps(line) + "\n")
    _record.flush()
