"""CiliumNetworkPolicies as rules of the node's packet filter, as far as the manifests use them: egress.

Cilium learns the addresses of names from the DNS answers that it lets through; here they are known.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping

from tests.pods.rules import PODS, Member, World, selects
from tests.pods.strict import Object, known, must_be, one_of

_NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def allowed(policy: Object, member: Member, world: World) -> list[str] | None:
    """Return what a policy allows a pod to reach, None where it does not concern it."""
    spec = known("Cilium policy", policy["spec"], "endpointSelector", "egress")
    here = policy["kind"] == "CiliumClusterwideNetworkPolicy" or policy["metadata"]["namespace"] == member.namespace
    if not here or not selects(spec["endpointSelector"], _labels(member)):
        return None
    return [
        f"{who} {port} return".strip()
        for rule in spec["egress"]
        for who in _peers(rule, world)
        for port in _ports(rule.get("toPorts"))
    ]


def _labels(member: Member) -> Mapping[str, str]:
    return {**member.labels, _NAMESPACE: member.namespace}


def _peers(rule: Object, world: World) -> Iterator[str]:
    kinds = ("toEntities", "toFQDNs", "toCIDR", "toEndpoints")
    known("Cilium egress", rule, "toPorts", *kinds)
    match kind := one_of("Cilium egress", rule, kinds):
        case "toEntities":
            for entity in rule[kind]:
                # Of the API server there is none here.
                must_be("entity", entity in ("cluster", "kube-apiserver"), expected=True)
            yield f"ip daddr {PODS}"
        case "toFQDNs":
            addresses = {address for one in rule[kind] for address in _named(one, world)}
            yield from (f"ip daddr {address}" for address in sorted(addresses))
        case "toCIDR":
            yield from (f"ip daddr {cidr} ip daddr != {PODS}" for cidr in rule[kind])
        case _:
            for selector in rule[kind]:
                yield from (f"ip daddr {one.address}" for one in world.members if selects(selector, _labels(one)))


def _named(one: Object, world: World) -> Iterator[str]:
    pattern = one[one_of("toFQDNs", one, ("matchName", "matchPattern"))]
    yield from (address for name, address in world.names.items() if fnmatch.fnmatchcase(name, pattern))


def _ports(to_ports: list[Object] | None) -> Iterator[str]:
    if to_ports is None:
        yield ""
        return
    for entry in to_ports:
        # `rules.dns` with any name: Cilium reads the answers.
        known("toPorts", entry, "ports", "rules")
        must_be(
            "toPorts: rules", entry.get("rules", {"dns": [{"matchPattern": "*"}]}), {"dns": [{"matchPattern": "*"}]}
        )
        yield from (f"{port['protocol'].lower()} dport {port['port']}" for port in entry["ports"])
