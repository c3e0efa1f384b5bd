"""The files of the development gateway: everything that `make run` keeps in its state directory."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from extproc.certificates.operations import ensure
from extproc.errors import ConfigError

AUDIENCE = "copilot-extproc"
_PORTS_FILE = "ports.json"

_PACKAGE = Path(__file__).parent
_ENVOY = _PACKAGE.parent.parent / "envoy"

# Relative, because a unix socket's path has at most 107 bytes; every process runs in the state directory.
SOCKET = "ext_proc.sock"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the development gateway listens; all on 127.0.0.1."""

    http: int = 8080
    https: int = 8443
    issuer: int = 8089
    upstream: int = 8090
    ops: int = 9464
    admin: int = 9901
    console: int = 8088
    proxy: int = 3128
    proxy_https: int = 3129
    envoy_ops: int = 9465

    @property
    def issuer_url(self) -> str:
        """Return the issuer's `iss`."""
        return f"http://127.0.0.1:{self.issuer}"


def ports_of(state: Path) -> Ports:
    """Return where the gateway of a state directory listens; raises ConfigError where none has run."""
    path = state / _PORTS_FILE
    if not path.exists():
        raise ConfigError(f"no gateway has run with the state directory {state}: start one with `make run`")
    return Ports(**json.loads(path.read_text()))


def prepare(state: Path, ports: Ports, upstream: str, *, now: float, policy: Path | None = None) -> None:
    """Write or refresh all files; keys, the CA and the demo credential are kept once made.

    `upstream` is the http URL that takes the place of all GitHub hosts. Raises ConfigError.
    """
    host, port = _address(upstream)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure(state / "ca", (), now)
    (state / _PORTS_FILE).write_text(json.dumps(asdict(ports)))
    credential = state / "github-token"
    if not credential.exists():
        credential.touch(mode=0o600)
        credential.write_text(f"gho_demo{secrets.token_hex(16)}\n")
    (state / "policy.yaml").write_bytes((policy or _PACKAGE / "policy.yaml").read_bytes())
    (state / "gateway.yaml").write_text(yaml.safe_dump(_gateway(ports), sort_keys=False))
    (state / "envoy.yaml").write_text(yaml.safe_dump(_envoy(state, ports), sort_keys=False))
    (state / "upstreams.yaml").write_text(yaml.safe_dump(_upstreams(host, port), sort_keys=False))
    (state / "workers.yaml").write_text(yaml.safe_dump(_workers(), sort_keys=False))
    for file, leaf in (("tls.yaml", "tls"), ("proxy-tls.yaml", "proxy")):
        (state / file).write_text(yaml.safe_dump(_tls(state, file, leaf), sort_keys=False))


def _gateway(ports: Ports) -> dict[str, Any]:
    return {
        "listen": [f"unix:{SOCKET}"],
        "operations": f"127.0.0.1:{ports.ops}",
        "policy": "policy.yaml",
        # Shared by all state directories of this user: compiling the rules takes some seconds.
        "rule_cache": str(Path.home() / ".cache" / "copilot-extproc" / "rules"),
        "store": {"sqlite": "record.db"},
        "issuers": [
            {
                "kind": "oidc",
                "issuer": ports.issuer_url,
                "audiences": [AUDIENCE],
                "name_claim": "preferred_username",
            }
        ],
        "sign_in": {
            "gateway": f"http://127.0.0.1:{ports.http}",
            "proxy": f"http://127.0.0.1:{ports.proxy}",
            "ca_file": "ca/ca.pem",
            "issuer": ports.issuer_url,
            "client_id": "copilot-extproc-cli",
        },
        "console": {
            "url": f"http://127.0.0.1:{ports.console}",
            "sign_in": {"issuer": ports.issuer_url, "client_id": "copilot-extproc-console"},
            "roles": {"developer": ["developers"], "auditor": ["auditors"], "administrator": ["admins"]},
        },
        "credentials": {
            "github": {
                "file": "github-token",
                "headers_if_missing": {
                    "copilot-integration-id": "copilot-developer-cli",
                    "editor-version": "copilot-extproc/0.1",
                },
            }
        },
    }


def _envoy(state: Path, ports: Ports) -> dict[str, Any]:
    """Return the production configuration with this machine's addresses and paths."""
    config = _read("envoy.yaml")
    config["admin"]["address"]["socket_address"]["port_value"] = ports.admin
    _moved(config["dynamic_resources"]["cds_config"], state)
    static = config["static_resources"]
    listeners = {listener["name"]: listener for listener in static["listeners"]}
    addresses = {
        "http": ports.http,
        "https": ports.https,
        "proxy": ports.proxy,
        "proxy-https": ports.proxy_https,
        "operations": ports.envoy_ops,
    }
    for name, port in addresses.items():
        listeners[name]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    for listener in listeners.values():
        for chain in listener["filter_chains"]:
            if "transport_socket" in chain:
                tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
                _moved(tls["tls_certificate_sds_secret_configs"][0]["sds_config"], state)
    clusters = {cluster["name"]: cluster for cluster in static["clusters"]}
    _moved(clusters["ext_proc"]["eds_cluster_config"]["eds_config"], state)
    _endpoint(clusters["admin"]["load_assignment"])["address"]["socket_address"]["port_value"] = ports.admin
    return config


def _moved(source: dict[str, Any], state: Path) -> None:
    """Let Envoy read a file of the state directory in place of the one of the same name in /etc/envoy."""
    path = source["path_config_source"]
    path["path"] = str(state / Path(path["path"]).name)


def _endpoint(assignment: dict[str, Any]) -> dict[str, Any]:
    endpoint: dict[str, Any] = assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    return endpoint


def _workers() -> dict[str, Any]:
    """Return the one worker of the development gateway."""
    config = _read("workers.yaml")
    (assignment,) = config["resources"]
    del assignment["endpoints"][0]["lb_endpoints"][1:]
    _endpoint(assignment)["address"]["pipe"]["path"] = SOCKET
    return config


def _upstreams(host: str, port: int) -> dict[str, Any]:
    """Return the production clusters with one plain upstream in place of every GitHub host."""
    config = _read("upstreams.yaml")
    for cluster in config["resources"]:
        del cluster["transport_socket"]
        for protocol in cluster["typed_extension_protocol_options"].values():
            del protocol["auto_config"]  # it negotiates by ALPN, so it needs TLS
            protocol["explicit_http_config"] = {"http_protocol_options": {}}
        _endpoint(cluster["load_assignment"])["address"]["socket_address"] = {"address": host, "port_value": port}
    return config


def _tls(state: Path, file: str, leaf: str) -> dict[str, Any]:
    config = _read(file)
    certificate = config["resources"][0]["tls_certificate"]
    certificate["certificate_chain"]["filename"] = str(state / "ca" / f"{leaf}.crt")
    certificate["private_key"]["filename"] = str(state / "ca" / f"{leaf}.key")
    certificate["watched_directory"]["path"] = str(state / "ca")
    return config


def _read(name: str) -> dict[str, Any]:
    path = _ENVOY / name
    if not path.exists():
        raise ConfigError(f"{path} is missing: the development gateway runs from a checkout of the repository")
    # Aliases of the file are one shared object in Python: a copy gives each place its own.
    config: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    return config


def _address(upstream: str) -> tuple[str, int]:
    parts = urlsplit(upstream)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path.strip("/"):
        raise ConfigError(f"UPSTREAM: expected http://HOST:PORT, got {upstream!r}")
    return parts.hostname, port
