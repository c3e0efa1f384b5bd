"""A small DNS server: `python -m tests.pods.dns ADDRESS ZONE`, authoritative for the names of a JSON file, over UDP.

`ZONE` has `names` (to IPv4 addresses) and `rewrites` (pairs of a regular expression and what takes the place of the
name, tried in order, as CoreDNS's plug-in `rewrite` does). It is read for every question, so that tests can change it.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
from pathlib import Path

from tests.pods import linux

_A, _ANY_OTHER_FLAGS, _NO_SUCH_NAME = 1, 0x8580, 3  # RFC 1035 section 4.1.1: answer, authoritative, recursion as asked


def answer(question: bytes, zone: dict[str, dict[str, str] | list[list[str]]]) -> bytes:
    """Return the answer to a message with one question (RFC 1035 section 4)."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
    address = look_up(".".join(labels).lower(), zone)
    answers = b""
    if address is not None and kind == _A:
        answers = struct.pack("!HHHIH", 0xC00C, _A, 1, 1, 4) + socket.inet_aton(address)
    flags = _ANY_OTHER_FLAGS | (_NO_SUCH_NAME if address is None else 0)
    head = question[:2] + struct.pack("!HHHHH", flags, 1, 1 if answers else 0, 0, 0)
    return head + question[12 : at + 5] + answers


def look_up(name: str, zone: dict[str, dict[str, str] | list[list[str]]]) -> str | None:
    names, rewrites = zone["names"], zone["rewrites"]
    assert isinstance(names, dict)
    assert isinstance(rewrites, list)
    for pattern, replacement in rewrites:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, replacement, name)
            break
    return names.get(name)


def main() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[1], 53))
    linux.end_with_parent()
    print("ready", flush=True)  # noqa: T201 - whoever starts it waits for this line
    while True:
        question, client = server.recvfrom(4096)
        server.sendto(answer(question, json.loads(Path(sys.argv[2]).read_text())), client)


if __name__ == "__main__":
    main()
