"""The parts of the simulation that need no root: what they would let pass would prove nothing."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.pods import dns
from tests.pods.environment import expand
from tests.pods.objects import rewrites
from tests.pods.probes import Probe, passed
from tests.pods.rules import Member, World, ruleset
from tests.pods.strict import known
from tests.pods.volumes import Files, publish

LABELS = {"app": "x"}
MEMBER = Member("a", LABELS, "10.244.0.1", {"https": 8443}, is_ready=True)


def rules_for(*policies: dict[str, Any], services: dict[str, Any] | None = None) -> str:
    world = World({"a": {}}, [MEMBER], services or {}, list(policies), {})
    return ruleset(world, [], lambda *_: None)


def policy(**spec: Any) -> Any:
    return {"kind": "NetworkPolicy", "metadata": {"namespace": "a"}, "spec": {"podSelector": {}, **spec}}


def test_a_field_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="the simulation does not know hostNetwork"):
        known("pod x", {"containers": [], "hostNetwork": True}, "containers")


def test_a_policy_without_rules_refuses_everything_and_no_policy_nothing() -> None:
    assert "jump" not in rules_for()
    refused = rules_for(policy(policyTypes=["Egress"]))
    assert "ip saddr 10.244.0.1 jump egress0" in refused
    assert "chain egress0 {\n  reject" in refused


def test_a_policy_allows_what_it_names_alone() -> None:
    to = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}]
    allowed = rules_for(policy(policyTypes=["Egress"], egress=to))
    assert "ip daddr 0.0.0.0/0 ip daddr != { 10.244.0.0/16, 10.0.0.0/8 } tcp dport 443 return" in allowed
    other = policy(policyTypes=["Egress"], egress=to)
    other["spec"]["podSelector"] = {"matchLabels": {"app": "y"}}
    assert "jump" not in rules_for(other)


def test_a_service_leads_to_ready_endpoints_of_its_namespace() -> None:
    service: dict[str, Any] = {
        "metadata": {"name": "s", "namespace": "a"},
        "spec": {"selector": LABELS, "ports": [{"port": 443, "targetPort": "https"}]},
    }
    assert "dnat to numgen random mod 1 map { 0 : 10.244.0.1 . 8443 }" in rules_for(services={"10.96.0.1": service})
    service["metadata"]["namespace"] = "b"
    assert "dnat" not in rules_for(services={"10.96.0.1": service})


def test_dns_answers_from_its_zone_after_rewriting() -> None:
    zone: dict[str, Any] = {
        "names": {"gateway.svc": "10.96.0.20", "other.example": "1.2.3.4"},
        "rewrites": rewrites("rewrite name exact api.example gateway.svc answer auto\nrewrite stop name exact b.c d.e"),
    }
    assert dns.look_up("api.example", zone) == "10.96.0.20"
    assert dns.look_up("other.example", zone) == "1.2.3.4"
    assert dns.look_up("b.c", zone) is None


@pytest.mark.parametrize(("kind", "answers"), [(1, 1), (28, 0)], ids=["A", "AAAA"])
def test_dns_has_ipv4_addresses_alone(kind: int, answers: int) -> None:
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x01b\x00" + kind.to_bytes(2, "big") + b"\x00\x01"
    answer = dns.answer(question, {"names": {"a.b": "1.2.3.4"}, "rewrites": []})
    assert answer[:2] == question[:2]
    assert (answer[3] & 0xF, answer[7]) == (0, answers)
    assert answer.endswith(bytes([1, 2, 3, 4])) == bool(answers)


def test_a_volume_changes_in_one_step_and_forgets_what_is_gone(tmp_path: Path) -> None:
    before: Files = {"a.yaml": (b"1", 0o644), "b.yaml": (b"1", 0o400)}
    publish(tmp_path, before, None)
    first = (tmp_path / "..data").readlink()
    (tmp_path / "nested").mkdir()
    publish(tmp_path, {"a.yaml": (b"2", 0o644)}, None)
    assert (tmp_path / "..data").readlink() != first
    assert (tmp_path / "a.yaml").read_bytes() == b"2"
    assert (tmp_path / "a.yaml").readlink() == Path("..data/a.yaml")
    assert sorted(one.name for one in tmp_path.iterdir() if not one.name.startswith("..")) == ["a.yaml", "nested"]
    assert stat.S_IMODE((tmp_path / "a.yaml").stat().st_mode) == 0o644


def test_variables_are_expanded_as_kubernetes_does() -> None:
    assert expand("$(A)-$$(A)-$(B)", {"A": "1"}) == "1-$(A)-$(B)"


@pytest.mark.parametrize(("answers", "passes"), [([False, True], True), ([False, False], False)])
def test_a_startup_probe_passes_within_its_failures(answers: list[bool], *, passes: bool) -> None:
    left = iter(answers)

    async def ask() -> bool:
        return next(left)

    assert asyncio.run(passed(Probe(ask, initial=0, period=0, successes=1, failures=2))) is passes
