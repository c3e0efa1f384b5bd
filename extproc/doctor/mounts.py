"""Which kind of file system a folder is on: does what is written there outlive the pod."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PASSING: Final = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
"""Memory, and the layer of a container that goes with it."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def kind_of(folder: Path, mountinfo: str) -> str | None:
    """Return the file system's type at an absolute, resolved folder; None where the text says nothing of it.

    `mountinfo` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)): the mount point is the fifth field, the
    type the first one behind ` - `.
    """
    found: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, behind = line.partition(" - ")
        fields, kind = before.split(" "), behind.split(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4]))
        # Of two at the same place the later one covers the other.
        if folder.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind
    return None if found is None else found[1]
