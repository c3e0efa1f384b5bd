"""Names in the manifests lead to what is there: Secrets, ConfigMaps, claims, ports, pods, commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from extproc.cli import application
from tests.detecting import loaded
from tests.k8s.rendering import GATEWAYS, NAMES, Object, Pod, named, of_kind, pod, pods, render, values

# Made by hand, as the overlay says: `dev` has no vault.
BY_HAND = {("copilot-gateway", "Secret", "credentials")}

# Not in files that are mounted: annotations of what kubectl does, and addresses of documentation.
IMAGES = ("registry.acme.example/copilot-extproc", "registry.acme.example/agent")


def provided(objects: list[Object]) -> set[tuple[str, str, str]]:
    """Return what can be mounted, by namespace, kind and name: objects, and Secrets that cert-manager makes of them."""
    there = {(one["metadata"].get("namespace", ""), one["kind"], one["metadata"]["name"]) for one in objects}
    made = {
        (one["metadata"]["namespace"], "Secret", one["spec"]["secretName"]) for one in of_kind(objects, "Certificate")
    }
    return there | made


def used(one: Pod) -> Iterator[tuple[str, str]]:
    """Yield the kind and name of everything that a pod's volumes and environment take from elsewhere."""
    for volume in one.spec.get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if found := source.get("secret"):
                yield "Secret", found.get("secretName") or found["name"]
            if found := source.get("configMap"):
                yield "ConfigMap", found["name"]
        if found := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", found["claimName"]
        if found := volume.get("csi"):
            yield "SecretProviderClass", found["volumeAttributes"]["secretProviderClass"]
    for container in one.containers:
        assert "envFrom" not in container
        assert not [each for each in container.get("env", []) if "valueFrom" in each]
    yield "ServiceAccount", one.spec["serviceAccountName"]


def missing(objects: list[Object]) -> Iterator[str]:
    there = provided(objects) | BY_HAND
    for one in pods(objects):
        for kind, name in used(one):
            if (one.namespace, kind, name) not in there:
                yield f"{one.name}: {kind} {name} is not there"


def matches(selector: Any, labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def unconnected(objects: list[Object]) -> Iterator[str]:
    """Yield selectors without pods, and ports that no container has."""
    all_pods = pods(objects)
    for one in of_kind(objects, "Service", "PodDisruptionBudget", "PodMonitor"):
        name = f"{one['kind']} {one['metadata']['name']}"
        selector = one["spec"]["selector"] if one["kind"] == "Service" else one["spec"]["selector"]["matchLabels"]
        chosen = [
            each
            for each in all_pods
            if each.namespace == one["metadata"]["namespace"] and matches(selector, each.labels)
        ]
        if not chosen:
            yield f"{name}: no pods"
        ports = {
            port["name"] for each in chosen for container in each.containers for port in container.get("ports", [])
        }
        wanted = [port["targetPort"] for port in one["spec"].get("ports", [])]
        wanted += [endpoint["port"] for endpoint in one["spec"].get("podMetricsEndpoints", [])]
        for port in wanted:
            if port not in ports:
                yield f"{name}: no port {port}"
    for each in all_pods:
        own = each.workload["spec"].get("selector", {}).get("matchLabels", each.labels)
        if not matches(own, each.labels):
            yield f"{each.name}: does not choose its own pods"
    for one in of_kind(objects, "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        if not [each for each in of_kind(objects, target["kind"]) if each["metadata"]["name"] == target["name"]]:
            yield f"HorizontalPodAutoscaler: no {target['name']}"


def issuers(objects: list[Object]) -> Iterator[str]:
    there = provided(objects)
    for one in of_kind(objects, "Certificate"):
        space, issuer = one["metadata"]["namespace"], one["spec"]["issuerRef"]["name"]
        if (space, "Issuer", issuer) not in there:
            yield f"Certificate {one['metadata']['name']}: Issuer {issuer} is not there"
    for one in of_kind(objects, "Issuer"):
        if (ca := one["spec"].get("ca")) and (one["metadata"]["namespace"], "Secret", ca["secretName"]) not in there:
            yield f"Issuer {one['metadata']['name']}: Secret {ca['secretName']} is not there"


def stateful_names(objects: list[Object]) -> Iterator[str]:
    for one in of_kind(objects, "StatefulSet"):
        service = named(objects, "Service", one["spec"]["serviceName"])
        if service["spec"].get("clusterIP") != "None" or not service["spec"].get("publishNotReadyAddresses"):
            yield f"StatefulSet {one['metadata']['name']}: its pods have no names while they are not ready"


def faults(objects: list[Object]) -> list[str]:
    return [fault for rule in (missing, unconnected, issuers, stateful_names) for fault in rule(objects)]


@pytest.mark.parametrize("overlay", NAMES)
def test_every_name_leads_to_something(overlay: str) -> None:
    assert faults(render(overlay)) == []


BREAKING: dict[str, Callable[[list[Object]], object]] = {
    "ConfigMap settings is not there": lambda objects: (
        pod(objects, "gateway").spec["volumes"].append({"name": "x", "configMap": {"name": "settings"}})
    ),
    "Secret gateway-tls is not there": lambda objects: objects.remove(named(objects, "Certificate", "gateway-tls")),
    "PersistentVolumeClaim console-state": lambda objects: objects.remove(
        named(objects, "PersistentVolumeClaim", "console-state")
    ),
    "SecretProviderClass gateway-keys": lambda objects: objects.remove(
        named(objects, "SecretProviderClass", "gateway-keys")
    ),
    "ServiceAccount console": lambda objects: objects.remove(named(objects, "ServiceAccount", "console")),
    "Service gateway: no port": lambda objects: named(objects, "Service", "gateway")["spec"]["ports"][0].update(
        targetPort="http"
    ),
    "PodDisruptionBudget gateway: no pods": lambda objects: named(objects, "PodDisruptionBudget", "gateway")["spec"][
        "selector"
    ]["matchLabels"].update(app="gateway"),
    "PodMonitor envoy: no port": lambda objects: named(objects, "PodMonitor", "envoy")["spec"]["podMetricsEndpoints"][
        0
    ].update(port="admin"),
    "console: does not choose its own": lambda objects: pod(objects, "console").labels.pop(
        "app.kubernetes.io/component"
    ),
    "HorizontalPodAutoscaler: no": lambda objects: named(objects, "HorizontalPodAutoscaler", "gateway")["spec"][
        "scaleTargetRef"
    ].update(name="gate"),
    "Issuer interception is not there": lambda objects: objects.remove(named(objects, "Issuer", "interception")),
    "Secret interception-ca is not there": lambda objects: objects.remove(
        named(objects, "Certificate", "interception-ca")
    ),
    "no names while": lambda objects: named(objects, "Service", "gateway-pods")["spec"].pop("publishNotReadyAddresses"),
}


@pytest.mark.parametrize("fault", BREAKING)
def test_a_name_that_leads_nowhere_is_found(fault: str) -> None:
    objects = render("egress-gateway")
    BREAKING[fault](objects)
    assert any(fault in one for one in faults(objects)), faults(objects)


def test_generated_maps_have_the_hash_of_their_content_in_the_name_so_that_a_change_rolls_the_pods() -> None:
    for overlay in GATEWAYS:
        for name in ("envoy", "settings"):
            found = named(render(overlay), "ConfigMap", name)["metadata"]["name"]
            assert re.fullmatch(rf"{name}-[a-z0-9]{{10}}", found)


def test_nothing_is_offered_on_port_80_nor_to_the_outside() -> None:
    for overlay in NAMES:
        for one in of_kind(render(overlay), "Service"):
            assert one["spec"].get("type", "ClusterIP") == "ClusterIP"
            assert 80 not in [port["port"] for port in one["spec"]["ports"]]
        assert not of_kind(render(overlay), "Ingress", "Gateway")


# --- no secret -------------------------------------------------------------------------------------------------------


def secrets(objects: list[Object]) -> list[str]:
    """Return Secrets, and what looks like a secret to the detector that masks prompts."""
    found = [f"a Secret {one['metadata']['name']}" for one in of_kind(objects, "Secret")]
    for one in objects:
        for at, value in values(one):
            place = f"{one['kind']} {one['metadata']['name']}{at}"
            found += [f"{place}: {hit.rule}" for hit in loaded().scan(str(value).encode())]
            # Of prompts these are masked as streams, by other means than the detector.
            found += [f"{place}: a private key"] if "PRIVATE KEY-----" in str(value) else []
    return found


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize("overlay", NAMES)
def test_no_secret_is_in_a_manifest(overlay: str) -> None:
    assert secrets(render(overlay)) == []


@pytest.mark.parametrize(
    ("breaking", "fault"),
    [
        (lambda objects: objects.append({"kind": "Secret", "metadata": {"name": "x"}, "data": {}}), "a Secret x"),
        (
            lambda objects: named(objects, "ConfigMap", "settings")["data"].update(
                {"token": "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"[:36]}
            ),
            ".data.token",
        ),
        (
            lambda objects: named(objects, "ConfigMap", "settings")["data"].update({"key": private_key()}),
            ".data.key",
        ),
    ],
)
def test_a_secret_in_a_manifest_is_found(breaking: Callable[[list[Object]], object], fault: str) -> None:
    objects = render("egress-gateway")
    breaking(objects)
    assert any(fault in one for one in secrets(objects))


# --- commands --------------------------------------------------------------------------------------------------------


def taken(args: list[str]) -> bool:
    """Say whether the program knows the command and all its options; nothing is run, since help comes first."""
    return CliRunner().invoke(application([]), [*args, "--help"]).exit_code == 0


def command_lines(objects: list[Object]) -> Iterator[list[str]]:
    for one in pods(objects):
        for container in one.containers:
            if container["image"].startswith(IMAGES[0]) and "command" not in container:
                yield container["args"]
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            if hook:
                assert hook[0] == "/opt/extproc/bin/extproc"
                yield hook[1:]


def test_the_program_takes_every_command_line() -> None:
    lines = {tuple(args) for overlay in NAMES for args in command_lines(render(overlay))}
    assert {args[0] for args in lines} == {"serve", "console", "keys", "drain"}
    assert [args for args in lines if not taken(list(args))] == []


@pytest.mark.parametrize("args", [["serves"], ["serve", "--settings", "x"], ["console", "--port", "1"]])
def test_a_command_line_that_the_program_does_not_take_is_found(args: list[str]) -> None:
    assert not taken(args)


def test_files_that_are_named_are_in_the_maps_that_are_mounted_there() -> None:
    for overlay in GATEWAYS:
        objects = render(overlay)
        envoy = named(objects, "ConfigMap", "envoy")["data"]
        mentioned = {each for text in envoy.values() for each in re.findall(r"/etc/envoy/([a-z-]+\.yaml)", text)}
        assert mentioned | {"envoy.yaml"} == set(envoy)
        assert "/etc/envoy/envoy.yaml" in pod(objects, "gateway").container("envoy")["args"]
        settings = yaml.safe_load(named(objects, "ConfigMap", "settings")["data"]["gateway.yaml"])
        assert settings["policy"] in named(objects, "ConfigMap", "settings")["data"]
