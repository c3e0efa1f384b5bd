"""The three ways in, and no way around: from a team's pod, with clients that know nothing of the gateway.

What enforces that there is no way around are the rendered NetworkPolicies, translated into rules of the node's packet
filter (`rules.py`). That the translation refuses anything at all is shown by opening a way on purpose.
"""

from __future__ import annotations

import pytest

from tests.pods import gateway, workload
from tests.pods.cluster import GITHUB, Cluster
from tests.pods.image import CHECKOUT
from tests.pods.internet import COPILOT_TOKEN
from tests.pods.objects import render
from tests.pods.workload import GATEWAY, Running, Target

pytestmark = pytest.mark.asyncio(loop_scope="session")

URL, COPILOT = f"https://{GATEWAY}", "https://api.githubcopilot.com"
AROUND: list[Target] = [
    ("tcp", GITHUB, 443), ("udp", GITHUB, 443), ("tcp", GITHUB, 80), ("tcp", "github.com", 443),
    ("udp", "github.com", 443), ("tcp", "copilot-telemetry.githubusercontent.com", 8443),
]  # fmt: skip


def environment(mode: str, token: str) -> dict[str, str]:
    """Return how the SDK is set up, each of them as docs/clients.md has it."""
    return {
        "url": {"OPENAI_BASE_URL": URL, "OPENAI_API_KEY": token},
        "forward proxy": {
            "OPENAI_BASE_URL": COPILOT,
            "OPENAI_API_KEY": "of-no-use",
            "HTTPS_PROXY": f"https://user:{token}@{GATEWAY}:3129",
        },
        "transparent": {"OPENAI_BASE_URL": COPILOT, "OPENAI_API_KEY": token},
    }[mode]


@pytest.mark.parametrize("mode", ["url", "forward proxy", "transparent"])
async def test_an_unmodified_client_is_answered_recorded_and_never_seen_upstream(running: Running, mode: str) -> None:
    cluster, token, question = running.cluster, gateway.token(running.cluster), f"asked by {mode}"
    code, output = await workload.ask(running.app, question, **environment(mode, token))
    assert (code, output) == (0, f"answer to {question}\n"), output

    sent = next(one for one in cluster.seen() if question in one["body"])
    assert dict(sent["headers"])["authorization"] == f"Bearer {COPILOT_TOKEN}"
    assert token not in str(sent)

    documents = [one for pod in running.gateways() for one in await workload.recorded(pod)]
    found = [one for one in documents if question in str(one["request"])]
    assert [(one["principal"]["name"], one["outcome"]) for one in found] == [("alice", "completed")]


@pytest.mark.parametrize("mode", ["url", "forward proxy", "transparent"])
async def test_nobody_gets_through_without_being_someone(running: Running, mode: str) -> None:
    before = len(running.cluster.seen())
    code, output = await workload.ask(running.app, "let me in", **environment(mode, "not-a-token"))
    assert code != 0
    assert "401" in output or "407" in output, output
    assert len(running.cluster.seen()) == before


async def test_a_workload_reaches_github_by_no_other_way(running: Running) -> None:
    assert await workload.reached(running.app, AROUND) == [], "there is a way around the gateway"


async def test_the_same_check_finds_a_way_that_is_opened_on_purpose(running: Running) -> None:
    with opened(running.cluster, f"ip saddr {running.app.host.address} ip daddr {GITHUB} accept"):
        assert await workload.reached(running.app, AROUND[:2]) == AROUND[:2]
    assert await workload.reached(running.app, AROUND[:2]) == []


async def test_the_network_policies_alone_leave_no_way_around_either(running: Running) -> None:
    """Where there is no Cilium: components/confined, as k8s/overlays/example-confined uses it."""
    cluster = running.cluster
    app = await workload.start(cluster, "confined", "team-b")
    cilium = cluster.objects.delete("CiliumClusterwideNetworkPolicy")
    try:
        cluster.update()
        assert await workload.reached(app, AROUND[:2]) == AROUND[:2]
        for policy in render(CHECKOUT / "k8s/overlays/example-confined").of("NetworkPolicy"):
            cluster.objects.apply(policy)
        cluster.update()
        doors: list[Target] = [("tcp", GATEWAY, 443), ("tcp", GATEWAY, 3129)]
        assert await workload.reached(app, AROUND + doors) == doors
    finally:
        for policy in cilium:
            cluster.objects.apply(policy)
        await app.crash()
        await cluster.remove(app)


async def test_a_workload_reaches_only_the_doors_of_the_gateway(running: Running) -> None:
    address = running.gateways()[0].host.address
    inner: list[Target] = [("tcp", address, port) for port in (8080, 3128, 9464, 9465, 9901, 8088)]
    doors: list[Target] = [("tcp", address, 8443), ("tcp", address, 3129)]
    assert await workload.reached(running.app, inner + doors) == doors
    with opened(running.cluster, f"ip saddr {running.app.host.address} ip daddr {address} accept"):
        # The loopback alone keeps the admin interface from everybody, and the console is another pod.
        assert await workload.reached(running.app, inner) == inner[:4]


class opened:  # noqa: N801 - a context manager
    """Open a way for as long as it lasts."""

    def __init__(self, cluster: Cluster, rule: str) -> None:
        self._cluster, self._rule = cluster, rule

    def __enter__(self) -> None:
        self._cluster.ways.append(self._rule)
        self._cluster.update()

    def __exit__(self, *_: object) -> None:
        self._cluster.ways.remove(self._rule)
        self._cluster.update()
