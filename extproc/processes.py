"""Processes of ours that must not outlive who started them."""

from __future__ import annotations

import ctypes
import signal
import sys


def end_with_parent() -> None:
    """Have this process told to end (SIGTERM) when the thread that started it does: PR_SET_PDEATHSIG of prctl(2).

    For `preexec_fn`. Linux only; elsewhere it does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
