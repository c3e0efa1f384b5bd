"""Make a file that holds a key: whole or not at all, and only one of several that try."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from extproc.durable import sync_folder


def create_once(path: Path, content: bytes) -> None:
    """Make the file with mode 0600, durable when this returns; where there is one already it stays. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600, so the key is never readable by others, not even while it is written.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace the key that another process may have put there meanwhile.
        path.hardlink_to(temporary)
        sync_folder(path.parent)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
