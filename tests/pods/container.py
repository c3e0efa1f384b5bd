"""One container, as a process of its own: `python -m tests.pods.container TASK`, a JSON file of `Task`.

It enters the pod's network, makes mount, process and IPC namespaces with nothing but the image and the volumes in them,
gives up all privileges and runs the command as process 1. Its first line of output is that process's number outside.
With `join` it runs a command in a container that is there, as `kubectl exec` does.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.pods import linux

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass
class Task:
    """What to run, and where."""

    argv: list[str]
    env: dict[str, str]
    cwd: str = "/"
    uid: int = 65532
    gid: int = 65532
    groups: list[int] = field(default_factory=list)
    network: str = ""
    """The file of the network namespace."""
    root: str = ""
    """An empty folder, the place of the root file system."""
    image: list[tuple[str, str]] = field(default_factory=list)
    """What of this machine is in the image (read-only), and where."""
    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Files of the image by path; those that begin with #! can be executed."""
    volumes: list[tuple[str, str, bool]] = field(default_factory=list)
    """Source, target and whether it is read-only, in order."""
    read_only_root: bool = True
    log: str = ""
    join: int = 0
    """The number of process 1 of the container to join."""

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path


def _make_root(task: Task) -> None:
    root = Path(task.root)
    linux.tmpfs(root)
    for path, text in task.files.items():
        made = root / path.lstrip("/")
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text)
        made.chmod(0o755 if text.startswith("#!") else 0o644)
    for path, target in task.links.items():
        (root / path.lstrip("/")).symlink_to(target)
    for source, target in task.image:
        _bind(source, root, target, read_only=True)
    for folder, mode in (("proc", 0o755), ("dev", 0o755), ("dev/shm", 0o1777)):
        (root / folder).mkdir(exist_ok=True)
        (root / folder).chmod(mode)
    for device in _DEVICES:
        _bind(f"/dev/{device}", root, f"/dev/{device}", read_only=False)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (root / "dev" / name).symlink_to(f"/proc/self/{target}")
    for source, target, read_only in task.volumes:
        _bind(source, root, target, read_only=read_only)
    if task.read_only_root:
        linux.make_read_only(root)


def _bind(source: str, root: Path, target: str, *, read_only: bool) -> None:
    place = root / target.lstrip("/")
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    linux.bind(Path(source), place, read_only=read_only)


def _become(task: Task) -> None:
    """Run the command in place of this process."""
    os.chdir(task.cwd)
    linux.give_up_privileges(task.uid, task.gid, task.groups)
    # After the change of user, which forgets it (prctl(2)).
    linux.end_with_parent()
    os.execvpe(task.argv[0], task.argv, task.env)  # noqa: S606 - the command of the container


def _start(task: Task) -> int:
    linux.enter(task.network, linux.NEW_NET)
    linux.unshare(linux.NEW_MOUNTS | linux.NEW_PIDS | linux.NEW_IPC | linux.NEW_UTS)
    linux.keep_mounts_private()
    _make_root(task)
    if (child := os.fork()) == 0:
        log = os.open(task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        linux.proc(Path(task.root) / "proc")
        os.chroot(task.root)
        _become(task)
    print(child, flush=True)  # noqa: T201 - whoever starts it waits for this line
    return child


def _join(task: Task) -> int:
    here = Path(f"/proc/{task.join}")
    root = os.open(here / "root", os.O_RDONLY)
    for name, kind in (
        ("net", linux.NEW_NET), ("ipc", linux.NEW_IPC), ("uts", linux.NEW_UTS), ("pid", linux.NEW_PIDS),
        ("mnt", linux.NEW_MOUNTS),
    ):  # fmt: skip
        linux.enter(here / "ns" / name, kind)
    if (child := os.fork()) == 0:
        os.fchdir(root)
        os.chroot(".")
        _become(task)
    return child


def main() -> int:
    linux.end_with_parent()
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    child = _join(task) if task.join else _start(task)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) % 256


if __name__ == "__main__":
    sys.exit(main())
