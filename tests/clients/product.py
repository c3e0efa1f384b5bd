"""The product as `make run` starts it, on free ports and in a state directory of its own, with the demo upstream."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from extproc.dev import files, keys, runner, users
from extproc.processes import end_with_parent
from extproc.signin.profile import Profile
from extproc.store.port import Search
from extproc.store.sqlite_archive import SqliteArchive
from tests.clients.install import ROOT
from tests.e2e.gateway import free_ports

READY_SECONDS = 90
STOP_SECONDS = 60
COMMAND_SECONDS = 60

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """A request that reached the demo upstream."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str

    @property
    def authorization(self) -> str | None:
        return next((value for name, value in self.headers if name.lower() == "authorization"), None)

    @property
    def text(self) -> str:
        return "\n".join([self.path, *(value for _, value in self.headers), self.body])


class Product:
    """The running gateway, and what tests look at in it."""

    def __init__(self) -> None:
        # Short, because a unix socket's path has at most 107 bytes.
        self.state = Path(tempfile.mkdtemp(prefix="extproc-"))
        names = [field.name for field in fields(files.Ports)]
        self.ports = files.Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
        self._log = self.state / "dev-up.log"
        self._process: subprocess.Popen[bytes] | None = None

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.clients.product", str(self.state), json.dumps(asdict(self.ports))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                # A test run that is killed leaves no gateway behind.
                preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread runs yet when the session begins
            )  # fmt: skip
        until(self._is_ready, "the gateway's `ready`", READY_SECONDS, self.logs)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(STOP_SECONDS)
        shutil.rmtree(self.state)

    def logs(self) -> str:
        """Return the ends of all logs, for a message."""
        paths = [self._log, *sorted((self.state / "logs").glob("*.log"))]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the gateway ended:\n{self.logs()}"
        return self._log.read_text().startswith("ready")

    # --- where it is, and who may use it -----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def ca(self) -> Path:
        return self.state / "ca" / "ca.pem"

    @property
    def profile(self) -> Profile:
        """Return what `extproc login` learns of this gateway."""
        proxy = f"http://127.0.0.1:{self.ports.proxy}"
        return Profile(gateway=self.url, proxy=proxy, issuer=self.ports.issuer_url, client_id="extproc")

    def token(self, user: str) -> str:
        return keys.token_for(self.state, user, users.DEMO_USERS[user], now=time.time())

    def extproc(self, *arguments: str) -> str:
        """Run a command on the gateway's state as people do; return what it prints."""
        command = [sys.executable, "-m", "extproc", *arguments, "--state-dir", str(self.state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)  # noqa: S603
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    # --- what happened -----------------------------------------------------------------------------------------------

    @property
    def credential(self) -> str:
        return (self.state / "github-token").read_text().strip()

    def seen(self) -> list[Seen]:
        with urllib.request.urlopen(self._seen_url, timeout=10) as response:  # noqa: S310 - loopback
            entries = json.load(response)
        return [
            Seen(
                one["method"],
                one["path"],
                [(name, value) for name, value in one["headers"]],
                json.dumps(one["body"], ensure_ascii=False),
            )
            for one in entries
        ]

    def forget_seen(self) -> None:
        request = urllib.request.Request(self._seen_url, method="DELETE")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - as above
            pass

    def documents(self, since: float) -> list[dict[str, Any]]:
        """Return the records of the exchanges that were opened since then (unix seconds), the oldest first."""
        path = self.state / "record.db"
        return list(SqliteArchive(path).exchanges(Search(since=since))) if path.exists() else []

    def pending(self) -> list[dict[str, Any]]:
        """Return the approvals that wait, the newest first."""
        lines = self.extproc("approvals", "list", "--state", "pending", "--json").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def _seen_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.upstream}/__seen"


def until(condition: Callable[[], T], what: str, seconds: float, explain: Callable[[], str] = str) -> T:
    """Poll until the condition gives something true: for what happens in other processes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s\n{explain()}"
        time.sleep(0.1)
    return value


def _main(state: str, ports: str) -> None:
    """Run the gateway in the foreground until SIGTERM, as `extproc dev up` does on its fixed ports."""
    where = files.Ports(**json.loads(ports))
    asyncio.run(runner.run(Path(state), where, None, lambda line: print(line, flush=True)))  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
