"""What is compared: the ways from the client to the upstream, each with its configuration and its processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from bench import noop, peers
from extproc.dev import files
from extproc.dev.runner import envoy_binary

_HERE: Final = Path(__file__).parent

SERVICE: Final = "service"
ENVOY: Final = "envoy"


class Variant(StrEnum):
    """What sits in the path."""

    OURS = "ours"
    GRPC = "ours, grpc"
    WORKERS = "ours, 2 workers"
    NOOP = "no-op"
    NONE = "none"
    MITMPROXY = "mitmproxy"
    LITELLM = "LiteLLM"


OURS: Final = (Variant.OURS, Variant.GRPC, Variant.WORKERS)
PEERS: Final = (Variant.MITMPROXY, Variant.LITELLM)

_SETTINGS: Final[Mapping[Variant, dict[str, Any]]] = {
    Variant.OURS: {"transport": "http2"},
    Variant.GRPC: {"transport": "grpc"},
    Variant.WORKERS: {"transport": "http2", "workers": 2, "listen": ["unix:ext_proc-{worker}.sock"]},
}


def installed(variant: Variant) -> bool:
    """Return whether a way can be taken: peers have virtual environments of their own."""
    return variant not in PEERS or peers.installed(variant.lower())


def prepared(variant: Variant, state: Path, ports: files.Ports) -> dict[str, list[str]]:
    """Write a way's configuration to its state directory; return the command line of each of its processes."""
    state.mkdir(parents=True, exist_ok=True)
    match variant:
        case Variant.MITMPROXY:
            return {SERVICE: peers.mitmproxy(ports.http, ports.upstream)}
        case Variant.LITELLM:
            return {SERVICE: peers.litellm(state, ports.http, ports.upstream)}
        case _:
            files.prepare(state, ports, f"http://127.0.0.1:{ports.upstream}", now=time.time())
    commands = {
        ENVOY: [envoy_binary(), "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--disable-hot-restart"]
    }
    match variant:
        case Variant.NOOP:
            commands[SERVICE] = [sys.executable, str(_HERE / "noop.py"), files.SOCKET]
        case Variant.NONE:
            _without_ext_proc(state / "envoy.yaml")
        case _:
            _configure(state, _SETTINGS[variant])
            commands[SERVICE] = [sys.executable, "-m", "extproc", "serve", "--config", str(state / "gateway.yaml")]
    return commands


def _configure(state: Path, settings: dict[str, Any]) -> None:
    """Change the service's settings, and tell Envoy of every worker."""
    path = state / "gateway.yaml"
    changed = yaml.safe_load(path.read_text()) | settings
    path.write_text(yaml.safe_dump(changed, sort_keys=False))
    path = state / "workers.yaml"
    config = yaml.safe_load(path.read_text())
    (listen,) = changed["listen"]
    sockets = [listen.removeprefix("unix:").replace("{worker}", str(n)) for n in range(changed.get("workers", 1))]
    config["resources"][0]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": one}}}} for one in sockets]}
    ]
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _without_ext_proc(path: Path) -> None:
    """Take ext_proc out of Envoy's configuration, and route what would have been routed by its decision."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    static = config["static_resources"]
    # It asks for the health of what is not there.
    static["listeners"] = [one for one in static["listeners"] if one["name"] != "operations"]
    static["clusters"] = [one for one in static["clusters"] if one["name"] not in {"ext_proc", "admin"}]
    for listener in static["listeners"]:
        listener.pop("access_log", None)
        for chain in listener["filter_chains"]:
            _undecided(chain["filters"][0]["typed_config"])
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _undecided(manager: dict[str, Any]) -> None:
    """Take the filter out of a connection manager; its first route, for what was decided, becomes that of all."""
    manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].endswith("ext_proc")]
    manager["access_log"] = [one for one in manager["access_log"] if not one["name"].endswith("http_grpc")]
    manager["route_config"]["validate_clusters"] = False  # they come from a file of their own, later
    first = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    del first["match"]["headers"]
    if first["route"].pop("cluster_header", None):
        first["route"]["cluster"] = noop.UPSTREAM
