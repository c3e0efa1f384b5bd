"""k8s/overlays/dev: one pod on any cluster, with the console in it, its own authority and plain NetworkPolicies."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from extproc.dev import keys
from tests.pods import gateway, workload
from tests.pods.cluster import OIDC_ISSUER, Cluster
from tests.pods.internet import COPILOT_TOKEN, CREDENTIAL
from tests.pods.kubelet import Pod
from tests.pods.workload import GATEWAY

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True)
class Small:
    cluster: Cluster
    pod: Pod

    def token(self) -> str:
        return keys.mint(
            self.cluster.key, issuer=OIDC_ISSUER, audience="copilot-gateway", user="alice", groups=(), now=time.time()
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(namespaces: None) -> AsyncIterator[Small]:
    cluster = Cluster(gateway.objects("dev"))
    try:
        cluster.secret("credentials", {"copilot-token": CREDENTIAL.encode()})
        await cluster.start_outside()
        pod = cluster.prepare_gateway(0)
        await pod.start()
        await pod.ready()
        yield Small(cluster, pod)
    finally:
        await cluster.stop()


async def test_the_pod_records_what_a_workload_asks(small: Small) -> None:
    authority = (small.pod.disk("state") / "ca" / "ca.pem").read_text()
    app = await workload.start(small.cluster, authority=authority)
    environment = {"OPENAI_BASE_URL": f"https://{GATEWAY}", "OPENAI_API_KEY": small.token()}
    code, output = await workload.ask(app, "asked the small one", **environment)
    assert (code, output) == (0, "answer to asked the small one\n"), output + small.pod.logs()
    sent = next(one for one in small.cluster.seen() if "asked the small one" in one["body"])
    assert dict(sent["headers"])["authorization"] == f"Bearer {COPILOT_TOKEN}"
    assert [one["outcome"] for one in await workload.recorded(small.pod) if one["principal"]] == ["completed"]


async def test_the_pod_comes_back_with_its_authority_and_its_record(small: Small) -> None:
    authority = (small.pod.disk("state") / "ca" / "ca.pem").read_bytes()
    before = await workload.recorded(small.pod)
    [ended] = await small.cluster.restart()
    again = small.cluster.pods[ended.name]
    assert (again.disk("state") / "ca" / "ca.pem").read_bytes() == authority
    assert before
    assert await workload.recorded(again) == before
