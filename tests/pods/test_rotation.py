"""Certificates that are renewed are served by the Envoy that runs."""

from __future__ import annotations

import socket
import ssl

import pytest
from cryptography import x509

from tests.e2e.gateway import until
from tests.pods.kubelet import Pod
from tests.pods.network import from_inside
from tests.pods.workload import GATEWAY, Running

pytestmark = pytest.mark.asyncio(loop_scope="session")


def served(running: Running, pod: Pod, port: int, name: str) -> int:
    """Return the serial number of the certificate that a team's pod is shown for a name."""
    trust = ssl.create_default_context(cadata=running.cluster.inner.pem)

    def handshake() -> int:
        with (
            socket.create_connection((pod.host.address, port), 5) as raw,
            trust.wrap_socket(raw, server_hostname=name) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
            assert shown is not None
            return x509.load_der_x509_certificate(shown).serial_number

    return from_inside(running.app.host, handshake)


@pytest.mark.parametrize(
    ("port", "name"),
    [(8443, GATEWAY), (3129, GATEWAY), (8443, "api.githubcopilot.com")],
    ids=["url", "proxy", "transparent"],
)
async def test_a_renewed_certificate_is_served_without_a_restart(running: Running, port: int, name: str) -> None:
    pod = running.gateways()[0]
    envoy = pod.container("envoy").pid
    before = served(running, pod, port, name)
    assert served(running, pod, port, name) == before

    running.cluster.certify()
    pod.volumes.refresh()

    await until(lambda: served(running, pod, port, name) != before, "the new certificate", 10)
    assert (pod.container("envoy").pid, pod.container("envoy").restarts) == (envoy, 0)
