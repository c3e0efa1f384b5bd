"""Hosts as network namespaces around one router, the node: every packet between two of them is forwarded by it.

The node's nftables are what kube-proxy and the network plug-in are in a cluster (`rules.py` writes them). Names carry
the number of the test's process, so that what a killed run left is found and removed by the next.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.pods import linux

_PREFIX = "extproc-"
FOLDERS = "extproc-pods-"
"""What the names of a run's folders begin with; then comes the number of its process."""
MEMORY = Path("/dev/shm")  # noqa: S108 - where it is on Linux
_ROUTER = "169.254.1.1"
_count = itertools.count()
T = TypeVar("T")


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)  # noqa: S603 - fixed ones
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{text or ''}"
    return done.stdout


def missing_tools() -> list[str]:
    return [tool for tool in ("ip", "nft", "kubectl", "openssl", "curl") if shutil.which(tool) is None]


def refused() -> str | None:
    """Say why there can be no namespaces and rules here, as in many containers; None where there can."""
    network: Network | None = None
    try:
        network = Network()
        network.enforce("table ip probe {\nchain c { type nat hook prerouting priority dstnat; }\n}\n")
    except AssertionError as failure:
        return str(failure)
    finally:
        if network is not None:
            network.close()
    return None


def sweep() -> None:
    """Remove the namespaces and folders of runs that are dead."""
    for line in run("ip", "netns", "list").splitlines():
        found = re.match(rf"{_PREFIX}(\d+)-", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            run("ip", "netns", "del", line.split()[0])
    for folder in (*Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"), *MEMORY.glob(f"{FOLDERS}*")):
        if not Path(f"/proc/{folder.name.removeprefix(FOLDERS).split('-')[0]}").exists():
            shutil.rmtree(folder)


@dataclass(frozen=True)
class Host:
    """A namespace with a wire to the node."""

    namespace: str
    addresses: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"/run/netns/{self.namespace}"

    @property
    def address(self) -> str:
        return self.addresses[0]

    def ip(self, *command: str) -> str:
        return run("ip", "-n", self.namespace, *command)


class Network:
    def __init__(self) -> None:
        sweep()
        self._prefix = f"{_PREFIX}{os.getpid()}-{next(_count)}-"
        self._wires = 0
        self.node = self._namespace("node", (_ROUTER,))
        run("ip", "netns", "exec", self.node.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._on_node = ThreadPoolExecutor(16, initializer=linux.enter, initargs=(self.node.file, linux.NEW_NET))

    def _namespace(self, name: str, addresses: tuple[str, ...]) -> Host:
        host = Host(self._prefix + name, addresses)
        run("ip", "netns", "add", host.namespace)
        host.ip("link", "set", "lo", "up")
        return host

    def add(self, name: str, *addresses: str) -> Host:
        """Make a host with these addresses, which sends all it has to the node."""
        host = self._namespace(name, addresses)
        self._wires += 1
        wire = f"w{self._wires}"
        run("ip", "link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", wire, "netns",
            self.node.namespace)  # fmt: skip
        self.node.ip("addr", "add", f"{_ROUTER}/32", "dev", wire)
        self.node.ip("link", "set", wire, "up")
        host.ip("link", "set", "eth0", "up")
        for address in addresses:
            host.ip("addr", "add", f"{address}/32", "dev", "eth0")
            self.node.ip("route", "add", f"{address}/32", "dev", wire)
        host.ip("route", "add", _ROUTER, "dev", "eth0", "scope", "link")
        host.ip("route", "add", "default", "via", _ROUTER, "dev", "eth0", "src", addresses[0])
        return host

    def remove(self, host: Host) -> None:
        run("ip", "netns", "del", host.namespace)

    def on_node(self) -> ThreadPoolExecutor:
        """Return threads whose connections are made by the node, as those of kubelet's probes are."""
        return self._on_node

    def enforce(self, ruleset: str) -> None:
        """Replace all rules of the node at once."""
        run("ip", "netns", "exec", self.node.namespace, "nft", "-f", "-", text="flush ruleset\n" + ruleset)

    def close(self) -> None:
        self._on_node.shutdown()
        for line in run("ip", "netns", "list").splitlines():
            if line.startswith(self._prefix):
                run("ip", "netns", "del", line.split()[0])


def from_inside(host: Host, function: Callable[[], T]) -> T:
    """Call a function in a thread whose connections are the host's."""
    with ThreadPoolExecutor(1, initializer=linux.enter, initargs=(host.file, linux.NEW_NET)) as thread:
        return thread.submit(function).result()
