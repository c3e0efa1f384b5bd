"""Run the commands of `extproc` that the tour shows, as a person would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from extproc.errors import ExtprocError


def command(state: Path, *arguments: str) -> str:
    """Return what `extproc ARGUMENTS` prints; raises ExtprocError with what it says where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "extproc", *arguments, "--state-dir", str(state)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ExtprocError(f"extproc {' '.join(arguments[:2])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
