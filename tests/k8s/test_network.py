from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.k8s.network import End, confines, reaches
from tests.k8s.rendering import (
    GATEWAYS,
    NAMESPACE,
    ON_AKS,
    OVERLAYS,
    ROOT,
    Object,
    named,
    of_kind,
    pods,
    render,
    render_folder,
)

Breaking = Callable[[list[Object]], object]


def ours(component: str) -> End:
    labels = {"app.kubernetes.io/name": "copilot-extproc", "app.kubernetes.io/component": component}
    return End("10.244.1.7", NAMESPACE, labels)


GATEWAY, CONSOLE = ours("gateway"), ours("console")
# A thief in our own namespace, without our labels.
STRANGER = End("10.244.1.99", NAMESPACE, {"app": "stranger"})
WORKLOAD = End("10.244.2.8", "team-a", {"app": "agent"})
CONFINED = End("10.244.2.9", "team-b", {"app": "agent"})
PROMETHEUS = End("10.244.3.5", "monitoring", {"app.kubernetes.io/name": "prometheus"})
INGRESS = End("10.244.3.6", "app-routing-system", {"app": "nginx"})
DNS = End("10.244.0.2", "kube-system", {"k8s-app": "kube-dns"})
COREDNS_OTHER = End("10.244.0.3", "kube-system", {"k8s-app": "other"})

GITHUB = End("140.82.112.5", names=("api.github.com",))
COPILOT = End("140.82.112.21", names=("api.individual.githubcopilot.com",))
COSMOS = End("20.61.99.1", names=("acme-copilot.documents.azure.com",))
COSMOS_REGION = End("20.61.99.2", names=("acme-copilot-westeurope.documents.azure.com",))
VAULT = End("20.61.99.3", names=("acme-gateway.vault.azure.net",))
WITNESS = End("20.61.99.4", names=("acmewitness.blob.core.windows.net",))
ISSUER = End("20.190.159.1", names=("login.microsoftonline.com",))
ELSEWHERE = End("93.184.215.14", names=("attacker.example",))
LIKE_GITHUB = End("93.184.215.15", names=("api.github.com.attacker.example",))
LIKE_COSMOS = End("93.184.215.16", names=("acme-copilot-x.attacker.documents.azure.com",))
METADATA = End("169.254.169.254")
RESOLVER = End("168.63.129.16")
API_SERVER = End("20.61.100.1", entity="kube-apiserver")
PRIVATE = End("10.1.2.3")
IPV6 = End("2606:50c0:8000::153")

# What holds wherever there is a gateway.
EVERYWHERE = [
    ("workloads reach it", WORKLOAD, GATEWAY, 8443, True),
    ("its proxy over TLS", WORKLOAD, GATEWAY, 3129, True),
    ("not without TLS", WORKLOAD, GATEWAY, 8080, False),
    ("not its plain proxy", WORKLOAD, GATEWAY, 3128, False),
    ("not Envoy's admin", WORKLOAD, GATEWAY, 9901, False),
    ("not its operations", WORKLOAD, GATEWAY, 9464, False),
    ("not Envoy's operations", WORKLOAD, GATEWAY, 9465, False),
    ("not the console", WORKLOAD, CONSOLE, 8088, False),
    ("the gateway neither", GATEWAY, CONSOLE, 8088, False),
    ("nothing else of ours", STRANGER, GATEWAY, 9464, False),
    ("a stranger in the namespace gets nowhere", STRANGER, GITHUB, 443, False),
    ("and is not reached", WORKLOAD, STRANGER, 80, False),
    ("Prometheus: extproc", PROMETHEUS, GATEWAY, 9464, True),
    ("Prometheus: Envoy", PROMETHEUS, GATEWAY, 9465, True),
    ("Prometheus: nothing else", PROMETHEUS, GATEWAY, 9901, False),
    ("exchanges", GATEWAY, GITHUB, 443, True),
    ("exchanges with Copilot", GATEWAY, COPILOT, 443, True),
    ("https alone", GATEWAY, GITHUB, 22, False),
    ("issuers", GATEWAY, ISSUER, 443, True),
    ("no metadata of the cloud", GATEWAY, METADATA, 80, False),
    ("by no port", GATEWAY, METADATA, 443, False),
    ("nor as a resolver", GATEWAY, METADATA, 53, False),
    ("no neighbours", GATEWAY, WORKLOAD, 443, False),
    ("no private addresses", GATEWAY, PRIVATE, 443, False),
    ("no API server", GATEWAY, End("10.0.0.1"), 443, False),
    ("no secrets of the node", GATEWAY, RESOLVER, 443, False),
    ("nor at their port", GATEWAY, RESOLVER, 32526, False),
    ("no IPv6", GATEWAY, IPV6, 443, False),
]

ON_AKS_ALONE = [
    ("workloads do not go around it", WORKLOAD, GITHUB, 443, False),
    ("to Copilot neither", WORKLOAD, COPILOT, 443, False),
    ("nor by addresses that they know", WORKLOAD, End("140.82.112.5"), 443, False),
    ("nor to another resolver", WORKLOAD, ELSEWHERE, 53, False),
    ("nor to anything", WORKLOAD, ELSEWHERE, 443, False),
    ("they reach each other", WORKLOAD, CONFINED, 8000, True),
    ("and the API server", WORKLOAD, API_SERVER, 443, True),
    ("and the cluster's DNS", WORKLOAD, DNS, 53, True),
    ("not metadata", WORKLOAD, METADATA, 80, False),
    ("not even the gateway goes elsewhere", GATEWAY, ELSEWHERE, 443, False),
    ("nor to names that only begin alike", GATEWAY, LIKE_GITHUB, 443, False),
    ("nor to such a store", GATEWAY, LIKE_COSMOS, 443, False),
    ("the store", GATEWAY, COSMOS, 443, True),
    ("and its regions", GATEWAY, COSMOS_REGION, 443, True),
    ("the vault", GATEWAY, VAULT, 443, True),
    ("the witness", GATEWAY, WITNESS, 443, True),
    ("the node's resolver", GATEWAY, RESOLVER, 53, True),
    ("no other", GATEWAY, ELSEWHERE, 53, False),
    ("people reach the console by the ingress controller", INGRESS, CONSOLE, 8088, True),
    ("which has no way to the gateway's operations", INGRESS, GATEWAY, 9464, False),
    ("the console asks the gateway", CONSOLE, GATEWAY, 9464, True),
    ("not its Envoy", CONSOLE, GATEWAY, 9465, False),
    ("the store", CONSOLE, COSMOS, 443, True),
    ("issuers", CONSOLE, ISSUER, 443, True),
    ("not GitHub", CONSOLE, GITHUB, 443, False),
    ("the cluster's DNS", CONSOLE, DNS, 53, True),
    ("nothing beside it", CONSOLE, COREDNS_OTHER, 53, False),
    ("no metadata", CONSOLE, METADATA, 80, False),
]


def tcp_or_dns(port: int) -> str:
    return "UDP" if port == 53 else "TCP"


def wrong(objects: list[Object], table: list[tuple[str, End, End, int, bool]]) -> list[str]:
    return [
        f"{why}: {source.namespace or source} -> {target} :{port} should be {expected}"
        for why, source, target, port, expected in table
        if reaches(objects, source, target, port, tcp_or_dns(port)) is not expected
    ]


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_who_reaches_whom_wherever_there_is_a_gateway(overlay: str) -> None:
    assert wrong(render(overlay), EVERYWHERE) == []


@pytest.mark.parametrize("overlay", ON_AKS)
def test_on_aks_nobody_goes_around_the_gateway(overlay: str) -> None:
    assert wrong(render(overlay), ON_AKS_ALONE) == []


def test_a_confined_namespace_reaches_dns_and_the_gateway_alone_without_cilium() -> None:
    objects = render("example-confined")
    assert reaches(objects, CONFINED, GATEWAY, 8443)
    assert reaches(objects, CONFINED, GATEWAY, 3129)
    assert reaches(objects, CONFINED, DNS, 53, "UDP")
    for target, port in (
        (GATEWAY, 9464),
        (GATEWAY, 8080),
        (GITHUB, 443),
        (WORKLOAD, 80),
        (METADATA, 80),
        (CONSOLE, 8088),
    ):
        assert not reaches(objects, CONFINED, target, port)
    assert not reaches(objects, CONFINED, ELSEWHERE, 53, "UDP")


def rendered_of(tmp_path: Path, components: list[str], **site: str) -> list[Object]:
    """Render the base with other components than the overlays have."""
    # kustomize takes folders by relative paths alone.
    root = Path(os.path.relpath(ROOT / "k8s", tmp_path))
    lines = (OVERLAYS / "egress-gateway" / "site" / "site.env").read_text().splitlines()
    data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | site
    values = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site"}, "data": data}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(values))
    whole = {
        "resources": [str(root / "base"), "site.yaml"],
        "components": [str(root / "components" / one) for one in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(whole))
    return render_folder(tmp_path)


def test_private_endpoints_are_reached_where_the_site_has_some_and_their_neighbours_are_not(tmp_path: Path) -> None:
    components = ["azure", "certificates", "monitoring", "cilium", "private-endpoints"]
    objects = rendered_of(tmp_path, components, PRIVATE_ENDPOINTS="10.1.2.0/27")
    for source in (GATEWAY, CONSOLE):
        assert reaches(objects, source, PRIVATE, 443)
        assert not reaches(objects, source, PRIVATE, 22)
        assert not reaches(objects, source, End("10.1.2.64"), 443)
    assert wrong(objects, [row for row in EVERYWHERE if row[2] is not PRIVATE]) == []


def refused_blocks(objects: list[Object]) -> list[str]:
    """Return the blocks that an API server refuses: exceptions are within the range, and smaller (`ipBlock.except`)."""
    found = []
    for one in of_kind(objects, "NetworkPolicy"):
        rules = [*one["spec"].get("egress", []), *one["spec"].get("ingress", [])]
        for peer in (peer for rule in rules for peer in [*rule.get("to", []), *rule.get("from", [])]):
            block = peer.get("ipBlock", {})
            for gap in block.get("except", []):
                whole, part = ipaddress.IPv4Network(block["cidr"]), ipaddress.IPv4Network(gap)
                if whole == part or not part.subnet_of(whole):
                    found.append(f"{one['metadata']['name']}: {whole} without {part}")
    return found


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_no_address_block_is_one_that_kubernetes_refuses(overlay: str) -> None:
    objects = render(overlay)
    assert refused_blocks(objects) == []
    policy(objects, "deny-all").update(
        egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.1/32", "except": ["169.254.0.0/16"]}}]}]
    )
    assert refused_blocks(objects) == ["deny-all: 10.0.0.1/32 without 169.254.0.0/16"]


def test_on_aks_without_cilium_the_gateway_asks_the_nodes_resolver_alone(tmp_path: Path) -> None:
    objects = rendered_of(tmp_path, ["azure", "certificates", "monitoring"])
    assert refused_blocks(objects) == []
    assert wrong(objects, EVERYWHERE) == []
    assert reaches(objects, GATEWAY, RESOLVER, 53, "UDP")
    assert not reaches(objects, GATEWAY, ELSEWHERE, 53, "UDP")


def uncovered(objects: list[Object]) -> list[str]:
    return [
        f"{one.name}: {direction}"
        for one in pods(objects)
        for direction in ("ingress", "egress")
        if not confines(objects, direction, End("10.244.9.9", one.namespace, one.labels))
    ]


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_every_pod_of_ours_is_confined_both_ways(overlay: str) -> None:
    objects = render(overlay)
    assert uncovered(objects) == []
    # And one that somebody adds.
    assert all(confines(objects, direction, STRANGER) for direction in ("ingress", "egress"))


def policy(objects: list[Object], name: str) -> Object:
    spec: Object = next(
        one["spec"]
        for one in of_kind(objects, "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        if one["metadata"]["name"] == name
    )
    return spec


def add(objects: list[Object], **spec: object) -> None:
    objects.append(
        {
            "kind": "NetworkPolicy",
            "metadata": {"name": "more", "namespace": NAMESPACE},
            "spec": {"podSelector": {}, **spec},
        }
    )


BREAKING: dict[str, Breaking] = {
    "not without TLS": lambda all_: policy(all_, "gateway-clients")["ingress"][0]["ports"].append({"port": 8080}),
    "not Envoy's admin": lambda all_: policy(all_, "gateway-clients")["ingress"][0].pop("ports"),
    "not its operations": lambda all_: policy(all_, "gateway-operations")["ingress"][0].update(
        {"from": [{"namespaceSelector": {}}]}
    ),
    "Prometheus: Envoy": lambda all_: all_.remove(named(all_, "NetworkPolicy", "gateway-operations")),
    "a stranger in the namespace": lambda all_: all_.remove(named(all_, "NetworkPolicy", "deny-all")),
    "no metadata of the cloud": lambda all_: add(
        all_, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
    ),
    "workloads do not go around it": lambda all_: all_.remove(
        named(all_, "CiliumClusterwideNetworkPolicy", "copilot-by-the-gateway-alone")
    ),
    "not even the gateway goes elsewhere": lambda all_: add(
        all_, policyTypes=["Egress"], egress=[{"ports": [{"port": 443}]}]
    ),
    "the store": lambda all_: policy(all_, "services")["egress"][0]["toFQDNs"].pop(0),
    "exchanges with Copilot": lambda all_: policy(all_, "github")["egress"][0]["toFQDNs"].pop(1),
    "nor to such a store": lambda all_: policy(all_, "services")["egress"][0]["toFQDNs"].append(
        {"matchPattern": "*.*.documents.azure.com"}
    ),
    "not GitHub": lambda all_: policy(all_, "github")["endpointSelector"].update(matchLabels={}),
    "people reach the console": lambda all_: policy(all_, "console")["ingress"].clear(),
}


@pytest.mark.parametrize("fault", BREAKING)
def test_a_policy_that_opens_or_closes_too_much_is_found(fault: str) -> None:
    objects = render("egress-gateway")
    BREAKING[fault](objects)
    assert any(one.startswith(fault) for one in wrong(objects, EVERYWHERE + ON_AKS_ALONE))


def test_a_pod_without_policies_is_found() -> None:
    objects = render("egress-gateway")
    objects.remove(named(objects, "NetworkPolicy", "deny-all"))
    assert uncovered(objects) == []
    for one in of_kind(objects, "NetworkPolicy", "CiliumNetworkPolicy"):
        if one["metadata"]["name"] in {"console", "services", "console-dns"}:
            objects.remove(one)
    assert uncovered(objects) == ["console: ingress", "console: egress"]


def test_what_the_evaluator_does_not_understand_is_an_error() -> None:
    objects = render("egress-gateway")
    policy(objects, "gateway-clients")["ingress"][0]["fromEntities"] = ["all"]
    with pytest.raises(AssertionError, match="not understood"):
        reaches(objects, WORKLOAD, GATEWAY, 8443)
