"""What kube-proxy and the network plug-in do, as nftables rules of the node, from Services and NetworkPolicies.

A Service's address is translated to one of its ready endpoints by chance, per connection. A NetworkPolicy is enforced
as the API says: a pod that one selects for a direction has only what some policy allows. What is refused is rejected,
not dropped as most network plug-ins do, so that tests need not wait. An ipBlock is for what is no pod (as Cilium has
it), and traffic of the node itself, such as probes, always passes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.pods.strict import Object, known, one_of

PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"


@dataclass(frozen=True)
class Member:
    """A pod as the network knows it; names of ports to numbers."""

    namespace: str
    labels: Mapping[str, str]
    address: str
    ports: Mapping[str, int]
    is_ready: bool


@dataclass(frozen=True)
class World:
    namespaces: Mapping[str, Mapping[str, str]]
    """Labels by name."""
    members: list[Member]
    services: dict[str, Object]
    """By cluster address."""
    policies: list[Object]
    """NetworkPolicies and those of Cilium."""
    names: Mapping[str, str]
    """Addresses outside of the cluster, by DNS name."""


Translate = Callable[[Object, Member, World], list[str] | None]
"""A policy to what it allows a pod, None where it does not concern it."""


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    known("selector", selector, "matchLabels", "matchExpressions")
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions", []))


def _fits(expression: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"selector: unknown operator {other}")


def ruleset(world: World, first: list[str], other: Translate) -> str:
    """Return everything for `nft -f`; `first` are rules before all others, `other` knows policies of other kinds."""
    chains, jumps = [], []
    for number, member in enumerate(world.members):
        for direction, field in (("Egress", "saddr"), ("Ingress", "daddr")):
            found = []
            for policy in world.policies:
                if policy["kind"] == "NetworkPolicy":
                    found.append(_translated(policy, member, world, direction))
                elif direction == "Egress":
                    found.append(other(policy, member, world))
            concerned = [rules for rules in found if rules is not None]
            if concerned:
                name = f"{direction.lower()}{number}"
                allowed = [rule for rules in concerned for rule in rules]
                chains.append(_chain(name, [*allowed, "reject with icmp type admin-prohibited"]))
                jumps.append(f"ip {field} {member.address} jump {name}")
    translated = [rule for address, service in world.services.items() for rule in _service(address, service, world)]
    forward = [
        "type filter hook forward priority filter; policy accept",
        "ct state established,related accept",
        *first,
        f"ip daddr {SERVICES} reject",
        *jumps,
    ]
    services = ["type nat hook prerouting priority dstnat; policy accept", *translated]
    tables = "\n".join([*chains, _chain("forward", forward), _chain("services", services)])
    return f"table ip cluster {{\n{tables}\n}}\n"


def _chain(name: str, rules: list[str]) -> str:
    return "\n".join([f"chain {name} {{", *(f"  {rule};" for rule in rules), "}"])


def _service(address: str, service: Object, world: World) -> Iterator[str]:
    spec = service["spec"]
    ready = [
        one
        for one in world.members
        if one.is_ready
        and one.namespace == service["metadata"]["namespace"]
        and spec["selector"].items() <= one.labels.items()
    ]
    for port in spec["ports"]:
        known(f"service {service['metadata']['name']}", port, "name", "port", "targetPort", "protocol", "appProtocol")
        target = port.get("targetPort", port["port"])
        ends = [(one.address, one.ports[target] if isinstance(target, str) else target) for one in ready]
        if ends:
            chosen = ", ".join(f"{number} : {ip} . {to}" for number, (ip, to) in enumerate(ends))
            protocol = port.get("protocol", "TCP").lower()
            yield (
                f"ip daddr {address} {protocol} dport {port['port']} "
                f"dnat to numgen random mod {len(ends)} map {{ {chosen} }}"
            )


def _translated(policy: Object, member: Member, world: World, direction: str) -> list[str] | None:
    return list(_allowed(policy, direction, world, member)) if _concerns(policy, member, direction) else None


def _concerns(policy: Object, member: Member, direction: str) -> bool:
    spec = known("NetworkPolicy", policy["spec"], "podSelector", "policyTypes", "ingress", "egress")
    types = spec.get("policyTypes", ["Ingress", *(["Egress"] if "egress" in spec else [])])
    here = policy["metadata"]["namespace"] == member.namespace
    return here and direction in types and selects(spec["podSelector"], member.labels)


def _allowed(policy: Object, direction: str, world: World, member: Member) -> Iterator[str]:
    peers, field = ("to", "daddr") if direction == "Egress" else ("from", "saddr")
    for rule in policy["spec"].get(direction.lower()) or []:
        known("NetworkPolicy rule", rule, peers, "ports")
        for who, targets in _peers(rule.get(peers), policy["metadata"]["namespace"], field, world):
            # The named ports of whom the packet is for.
            for port in _ports(rule.get("ports"), targets if direction == "Egress" else [member]):
                yield f"{who} {port} return".strip()


def _peers(peers: list[Object] | None, namespace: str, field: str, world: World) -> Iterator[tuple[str, list[Member]]]:
    if not peers:
        yield "", world.members
        return
    for peer in peers:
        known("NetworkPolicy peer", peer, "ipBlock", "namespaceSelector", "podSelector")
        if "ipBlock" in peer:
            one_of("NetworkPolicy peer", peer, ("ipBlock", "namespaceSelector", "podSelector"))
            block = known("ipBlock", peer["ipBlock"], "cidr", "except")
            if ipaddress.ip_network(block["cidr"]).version == 4:
                outside = ", ".join([PODS, *block.get("except", [])])
                yield f"ip {field} {block['cidr']} ip {field} != {{ {outside} }}", []
            continue
        for one in world.members:
            labels = {**world.namespaces[one.namespace], "kubernetes.io/metadata.name": one.namespace}
            same = (
                selects(peer["namespaceSelector"], labels)
                if "namespaceSelector" in peer
                else one.namespace == namespace
            )
            if same and selects(peer.get("podSelector", {}), one.labels):
                yield f"ip {field} {one.address}", [one]


def _ports(ports: list[Object] | None, targets: list[Member]) -> Iterator[str]:
    if not ports:
        yield ""
        return
    for entry in ports:
        known("NetworkPolicy port", entry, "port", "protocol", "endPort")
        protocol = entry.get("protocol", "TCP").lower()
        if "port" not in entry:
            yield f"meta l4proto {protocol}"
        elif "endPort" in entry:
            yield f"{protocol} dport {entry['port']}-{entry['endPort']}"
        else:
            named = isinstance(entry["port"], str)
            numbers = (
                {one.ports[entry["port"]] for one in targets if entry["port"] in one.ports}
                if named
                else {entry["port"]}
            )
            yield from (f"{protocol} dport {number}" for number in sorted(numbers))
