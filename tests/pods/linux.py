"""What containers are made of and Python 3.11 has no name for: namespaces, mounts, privileges."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

NEW_MOUNTS = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_PIDS = 0x20000000
NEW_NET = 0x40000000

_READ_ONLY, _NO_SUID, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def enter(namespace: str | Path, kind: int) -> None:
    """Move this thread (for processes: the children) into a namespace."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, kind), f"setns {namespace}")
    finally:
        os.close(descriptor)


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(result, f"mount {source} at {target}")


def keep_mounts_private() -> None:
    _mount("none", Path("/"), "none", _RECURSIVE | _PRIVATE)


def bind(source: Path, target: Path, *, read_only: bool) -> None:
    _mount(str(source), target, "none", _BIND | _RECURSIVE)
    if read_only:
        _mount("none", target, "none", _BIND | _REMOUNT | _READ_ONLY)


def tmpfs(target: Path, mode: str = "755") -> None:
    _mount("tmpfs", target, "tmpfs", _NO_SUID, f"mode={mode}")


def proc(target: Path) -> None:
    _mount("proc", target, "proc", _NO_SUID)


def make_read_only(target: Path) -> None:
    _mount("none", target, "none", _BIND | _REMOUNT | _READ_ONLY)


def end_with_parent() -> None:
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)


def give_up_privileges(uid: int, gid: int, groups: list[int]) -> None:
    """Become somebody without any capability, who cannot get one back."""
    capability = 0
    while _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # EINVAL after the last one
        capability += 1
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _checked(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
