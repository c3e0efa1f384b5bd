"""Who reaches whom, by the policies that were rendered: the semantics of Kubernetes and Cilium as far as they are used.

Sources: Kubernetes, "Network Policies"; Cilium, "Policy Language" and "Layer 3 Policies". What is not understood is
an error, never ignored: a policy that is read wrongly would prove nothing.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.k8s.rendering import Object, of_kind


@dataclass(frozen=True, slots=True)
class End:
    """A pod (with a namespace), or something outside of the cluster with the names that lead to it."""

    address: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    entity: str = ""

    @property
    def known(self) -> dict[str, str]:
        """Return the labels as Cilium has them, that of the namespace included."""
        return {"io.kubernetes.pod.namespace": self.namespace, **self.labels}


def reaches(objects: list[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Say whether both sides let a connection pass."""
    return (not source.namespace or _passes(objects, "egress", source, target, port, protocol)) and (
        not target.namespace or _passes(objects, "ingress", target, source, port, protocol)
    )


def confines(objects: list[Object], direction: str, end: End) -> bool:
    """Say whether some policy selects the pod for a direction, so that only what policies allow passes."""
    return any(True for _ in _policies(objects, direction, end))


def _passes(objects: list[Object], direction: str, own: End, other: End, port: int, protocol: str) -> bool:
    if not confines(objects, direction, own):
        return True
    return any(
        _allows(kind, rule, direction, own, other, port, protocol)
        for kind, spec in _policies(objects, direction, own)
        for rule in spec.get(direction) or []
    )


def _policies(objects: list[Object], direction: str, end: End) -> Iterator[tuple[str, Any]]:
    for one in of_kind(objects, "NetworkPolicy"):
        spec = one["spec"]
        _expect(spec, "podSelector", "policyTypes", "ingress", "egress")
        if (
            direction.capitalize() in spec["policyTypes"]
            and one["metadata"]["namespace"] == end.namespace
            and _selects(spec["podSelector"], end.labels)
        ):
            yield "NetworkPolicy", spec
    for one in of_kind(objects, "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"):
        spec = one["spec"]
        _expect(spec, "endpointSelector", "ingress", "egress")
        here = one["kind"] == "CiliumClusterwideNetworkPolicy" or one["metadata"]["namespace"] == end.namespace
        if direction in spec and here and _selects(spec["endpointSelector"], end.known):
            yield "Cilium", spec


def _allows(kind: str, rule: Any, direction: str, own: End, other: End, port: int, protocol: str) -> bool:
    if kind == "NetworkPolicy":
        _expect(rule, "from", "to", "ports")
        peers = rule.get("from" if direction == "ingress" else "to")
        return (peers is None or any(_is_peer(one, own, other) for one in peers)) and _port(rule, port, protocol)
    _expect(rule, "toEndpoints", "toCIDR", "toEntities", "toFQDNs", "toPorts")
    return _is_cilium_peer(rule, own, other) and any(
        _port(one, port, protocol) for one in rule.get("toPorts", [{"ports": None}])
    )


def _is_peer(peer: Any, own: End, other: End) -> bool:
    _expect(peer, "podSelector", "namespaceSelector", "ipBlock")
    if block := peer.get("ipBlock"):
        address = ipaddress.ip_address(other.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(one) for one in block.get("except", [])
        )
    if not other.namespace:
        return False
    spaces = peer.get("namespaceSelector")
    here = (
        other.namespace == own.namespace
        if spaces is None
        else _selects(spaces, {"kubernetes.io/metadata.name": other.namespace})
    )
    return here and _selects(peer.get("podSelector", {}), other.labels)


def _is_cilium_peer(rule: Any, own: End, other: End) -> bool:
    if ends := rule.get("toEndpoints"):
        # Without a namespace in the selector, of a policy with a namespace, that one is meant.
        return bool(other.namespace) and any(
            _selects(one, other.known)
            and ("k8s:io.kubernetes.pod.namespace" in one.get("matchLabels", {}) or other.namespace == own.namespace)
            for one in ends
        )
    if ranges := rule.get("toCIDR"):
        # Of the world alone: pods have identities, and ranges do not match them.
        return not other.namespace and any(
            ipaddress.ip_address(other.address) in ipaddress.ip_network(one) for one in ranges
        )
    if entities := rule.get("toEntities"):
        return other.entity in entities or (bool(other.namespace) and "cluster" in entities)
    return any(
        fnmatch.fnmatchcase(name, one.get("matchName", "") or one["matchPattern"]) and name.count(".") == _dots(one)
        for one in rule.get("toFQDNs", [])
        for name in other.names
    )


def _dots(one: Any) -> int:
    # `*` of a pattern stands for characters of one label.
    return str(one.get("matchName", "") or one["matchPattern"]).count(".")


def _port(rule: Any, port: int, protocol: str) -> bool:
    listed = rule.get("ports")
    if listed is None:
        return True
    return any(
        int(one["port"]) <= port <= int(one.get("endPort", one["port"])) and one.get("protocol", "TCP") == protocol
        for one in listed
    )


def _selects(selector: Any, labels: dict[str, str]) -> bool:
    _expect(selector, "matchLabels", "matchExpressions")
    wanted = {key.removeprefix("k8s:"): value for key, value in (selector.get("matchLabels") or {}).items()}
    if not wanted.items() <= labels.items():
        return False
    for one in selector.get("matchExpressions", []):
        value = labels.get(one["key"].removeprefix("k8s:"))
        if one["operator"] not in {"In", "NotIn"}:
            raise AssertionError(f"not understood: {one}")
        if (value in one["values"]) != (one["operator"] == "In"):
            return False
    return True


def _expect(value: Any, *keys: str) -> None:
    if unknown := set(value) - set(keys):
        raise AssertionError(f"not understood: {unknown}")
