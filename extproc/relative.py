"""Paths of unix sockets, which have at most 107 bytes (unix(7)): relative to where we run, where that is shorter."""

from __future__ import annotations

import os
from pathlib import Path


def short(path: Path) -> str:
    """Return the shorter of a path and the way to it from the working directory."""
    return min(str(path), os.path.relpath(path), key=len)
