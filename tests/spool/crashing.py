"""A process to be killed: it records exchanges as fast as it can, and says on standard output what it was promised.

Run as `python -m tests.spool.crashing SPOOL LOG SEED [KEY]`; with a key, what it records is encrypted.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from extproc.recording.envelope import Envelope
from extproc.spool.spool import Spool, SpoolBounds
from tests.recording_of import exchange
from tests.spooling import event, spool_in

WRITERS = 8
BOUNDS = SpoolBounds(reserve_bytes=64 << 10, segment_bytes=48 << 10)


def envelope(key: bytes) -> Envelope:
    return Envelope(lambda data: aes_key_wrap(key, data), lambda data: aes_key_unwrap(key, data), os.urandom)


def say(*words: object) -> None:
    # One write each: what was said before the kill arrives.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(spool: Spool, name: str, chosen: random.Random) -> None:
    number = 0
    while True:
        number += 1
        one = f"{name}-{number}"
        words = "word " * chosen.choice([5, 100, 1000])
        opening, closing = exchange(one, session=name, endpoint="chat", messages=[{"role": "user", "content": words}])
        await spool.append(opening, None)
        say("opened", one)
        spool.answering(one, 200, "text/event-stream")
        for piece in range(chosen.randrange(6)):
            spool.piece(one, 1.5 * piece, event(f"{one}.{piece} "))
            say("piece", one, piece)
            await asyncio.sleep(0)
        await spool.append(None, closing)
        say("closed", one)


async def main(root: Path, log: str, seed: str, *keys: str) -> None:
    new_key = envelope(bytes.fromhex(keys[0])).new_key if keys else None
    spool = spool_in(root, log, bounds=BOUNDS, new_key=new_key)
    chosen = [random.Random(f"{seed} {number}") for number in range(WRITERS)]  # noqa: S311 - the same each time
    await asyncio.gather(*(write(spool, f"{log}-{number}", one) for number, one in enumerate(chosen)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
