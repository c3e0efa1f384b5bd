"""The gateway beside one app: components/sidecar, as k8s/overlays/example-sidecar uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.pods import gateway, probes, workload
from tests.pods.cluster import ACCOUNT_ISSUER, APPS, Cluster
from tests.pods.internet import COPILOT_TOKEN
from tests.pods.kubelet import Pod
from tests.pods.objects import deployed_pod

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Beside:
    cluster: Cluster
    pod: Pod

    async def from_node(self, port: int, path: str = "") -> bool:
        address = self.pod.host.address
        check = probes.http_get(address, port, path, 2) if path else probes.tcp(address, port, 2)
        return await asyncio.get_running_loop().run_in_executor(self.cluster.network.on_node(), check)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def beside(namespaces: None) -> AsyncIterator[Beside]:
    cluster = Cluster(gateway.rendered("example-sidecar"))
    try:
        await cluster.start_outside()
        gateway.fill_vault(cluster)
        spec = deployed_pod(cluster.objects.get("Deployment", APPS, "agent"))
        # The agent is not here: its container stands still, and the tests run a client in it.
        spec["spec"]["containers"][0]["command"] = workload.IDLE
        for container in spec["spec"]["initContainers"]:
            if "readinessProbe" in container:
                container["readinessProbe"]["periodSeconds"] = gateway.PERIOD
        pod = cluster.prepare(spec)
        await pod.start()
        await pod.ready()
        yield Beside(cluster, pod)
    finally:
        await cluster.stop()


async def test_an_unmodified_client_goes_through_the_sidecar_by_the_environment_of_its_container(
    beside: Beside,
) -> None:
    token = (beside.pod.disk("token") / "token").read_text()
    copilot = {"OPENAI_BASE_URL": "https://api.githubcopilot.com", "OPENAI_API_KEY": "of-no-use"}
    code, output = await workload.ask_by_extproc_run(beside.pod, "asked beside", **copilot)
    assert (code, output) == (0, "answer to asked beside\n"), output + beside.pod.logs()

    sent = next(one for one in beside.cluster.seen() if "asked beside" in one["body"])
    assert dict(sent["headers"])["authorization"] == f"Bearer {COPILOT_TOKEN}"
    assert token not in str(sent)
    found = [
        one for one in await workload.recorded(beside.pod, "copilot-extproc") if "asked beside" in str(one["request"])
    ]
    principal, outcome = found[0]["principal"], found[0]["outcome"]
    assert (principal["kind"], outcome, len(found)) == ("workload", "completed", 1)
    assert principal["id"] == f"{ACCOUNT_ISSUER}#system:serviceaccount:{APPS}:agent"


async def test_the_sidecar_s_proxy_is_for_its_pod_alone(beside: Beside) -> None:
    ports = [port for port in (3128, 3129, 8080, 8443, 9901, 9465) if await beside.from_node(port)]
    assert ports == [9465]


async def test_envoy_is_ready_only_while_the_service_is(beside: Beside) -> None:
    assert await beside.from_node(9465, "/ready")
    beside.pod.freeze("copilot-extproc", frozen=True)
    try:
        async with asyncio.timeout(15):
            while await beside.from_node(9465, "/ready") or beside.pod.is_ready:  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.2)
    finally:
        beside.pod.freeze("copilot-extproc", frozen=False)
    await beside.pod.ready(15)
    assert await beside.from_node(9465, "/ready")
    assert [one.restarts for one in beside.pod.lasting] == [0, 0, 0]


async def test_the_pod_ends_in_time_and_in_order(beside: Beside) -> None:
    seconds = await beside.pod.end()
    assert seconds < 30
    assert '"message":"stopped"' in beside.pod.log("copilot-extproc")
