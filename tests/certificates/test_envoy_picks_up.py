"""A running Envoy takes up renewed certificates: the real binary, with secrets as in envoy/tls.yaml."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from extproc.certificates import operations
from extproc.certificates.operations import Wanted
from extproc.dev import runner
from tests.certificates.handshake import DAY, certificate, client
from tests.e2e.gateway import free_ports

NOTHING = Wanted()
READY_SECONDS = 30
TYPES = "type.googleapis.com/envoy.extensions"


def config(folder: Path, port: int, admin: int) -> dict[str, Any]:
    sds = {"path_config_source": {"path": str(folder / "secret.yaml")}, "resource_api_version": "V3"}
    tls = {
        "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "proxy", "sds_config": sds}]},
    }
    answer = {"prefix": "/"}, {"status": 200, "body": {"inline_string": "there"}}
    routes = [{"match": answer[0], "direct_response": answer[1]}]
    http = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
        ],
    }
    chain = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": [{"name": "tls", "address": address(port), "filter_chains": [chain]}]},
    }


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def secret(folder: Path) -> dict[str, Any]:
    chain, key = folder / "ca" / "proxy.crt", folder / "ca" / "proxy.key"
    files = {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
    kind = f"{TYPES}.transport_sockets.tls.v3.Secret"
    return {"resources": [{"@type": kind, "name": "proxy", "tls_certificate": files}]}


class Running:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.port, self.admin = free_ports(2)

    async def shown(self) -> x509.Certificate | str:
        """Return the certificate that a client of the authority accepted, or why it did not."""
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=client(self.ca / "ca.pem"), server_hostname="api.github.com"
            )
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(found)

    async def shows(self, expected: x509.Certificate) -> None:
        await eventually(self.shown, expected)


async def eventually(ask: Any, expected: object) -> None:
    """Poll until another process is where it should be."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            got = await ask()
        except OSError as error:
            got = error
        if got == expected:
            return
        assert time.monotonic() < deadline, f"expected {expected}, got {got} for {READY_SECONDS} s"
        await asyncio.sleep(0.02)


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Running]:
    one = Running(tmp_path)
    # The first certificate of this test ended yesterday.
    operations.init(one.ca, NOTHING, time.time() - 91 * DAY)
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret(tmp_path)))
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config(tmp_path, one.port, one.admin)))
    with (tmp_path / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            runner.envoy_binary(), "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--disable-hot-restart",
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await eventually(one.shown, "certificate has expired")
        yield one
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@pytest.mark.e2e
async def test_a_running_envoy_shows_each_renewed_certificate(envoy: Running) -> None:
    serials = {certificate(envoy.ca / "proxy.crt").serial_number}
    for force in (False, True, True, True):
        assert operations.renew(envoy.ca, NOTHING, time.time(), force=force).done
        renewed = certificate(envoy.ca / "proxy.crt")
        await envoy.shows(renewed)
        serials.add(renewed.serial_number)
    assert len(serials) == 5


@pytest.mark.e2e
async def test_a_running_envoy_takes_a_rotation_up(envoy: Running) -> None:
    operations.renew(envoy.ca, NOTHING, time.time())
    await envoy.shows(certificate(envoy.ca / "proxy.crt"))
    new = operations.announce(envoy.ca, NOTHING, time.time()).certificate
    operations.finish(envoy.ca, NOTHING, time.time())
    last = certificate(envoy.ca / "proxy.crt")
    assert last.issuer == new.subject
    await envoy.shows(last)


@pytest.mark.e2e
async def test_envoy_goes_on_with_what_it_has_between_key_and_certificate(envoy: Running) -> None:
    operations.renew(envoy.ca, NOTHING, time.time())
    shown = certificate(envoy.ca / "proxy.crt")
    await envoy.shows(shown)
    old = (envoy.ca / "proxy.crt").read_bytes()
    operations.renew(envoy.ca, NOTHING, time.time(), force=True)
    await envoy.shows(certificate(envoy.ca / "proxy.crt"))
    # The crash: the certificate of before is in place again, by a rename, as Envoy watches for.
    last, log = certificate(envoy.ca / "proxy.crt"), envoy.folder / "envoy.log"
    before = len(log.read_bytes())
    (envoy.ca / "half").write_bytes(old)
    (envoy.ca / "half").replace(envoy.ca / "proxy.crt")

    async def refused() -> bool:
        return b"KEY_VALUES_MISMATCH" in log.read_bytes()[before:]

    await eventually(refused, expected=True)
    assert await envoy.shown() == last
    assert operations.renew(envoy.ca, NOTHING, time.time()).done
    await envoy.shows(certificate(envoy.ca / "proxy.crt"))
