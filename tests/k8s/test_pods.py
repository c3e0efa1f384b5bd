from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.k8s.rendering import GATEWAYS, NAMES, NAMESPACE, Object, Pod, lasting, named, of_kind, pod, pods, render

Rule = Callable[[Pod], Iterator[str]]

# Kubernetes, "Pod Security Standards", Restricted.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def security_of_the_pod(one: Pod) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        if one.spec.get(key):
            yield f"{key} is on"
    if one.spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls"
    for volume in one.spec.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is {kinds}"
    if one.spec.get("automountServiceAccountToken") is not False:
        yield "a token of the service account is mounted"
    if one.spec.get("serviceAccountName", "default") == "default":
        yield "it has no service account of its own"


def security_of_containers(one: Pod) -> Iterator[str]:
    whole = one.spec.get("securityContext", {})
    for container in one.containers:
        name, own = container["name"], container.get("securityContext", {})
        both = whole | own
        if own.get("privileged") or own.get("procMount", "Default") != "Default":
            yield f"{name}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: privileges may be escalated"
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            yield f"{name}: capabilities are left"
        if both.get("runAsNonRoot") is not True or not both.get("runAsUser"):
            yield f"{name}: may be root"
        if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield f"{name}: no seccomp"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: its root can be written"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: a port of the host"


def pinned(one: Pod) -> Iterator[str]:
    for container in one.containers:
        if not re.fullmatch(r"[a-z0-9.:/-]+@sha256:[0-9a-f]{64}", container["image"]):
            yield f"{container['name']}: {container['image']} is not pinned"


def bounded(one: Pod) -> Iterator[str]:
    for container in one.containers:
        for kind in ("requests", "limits"):
            if missing := {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {})):
                yield f"{container['name']}: no {kind} of {missing}"
    for volume in one.spec.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {volume['name']} has no bound"


def probed(one: Pod) -> Iterator[str]:
    for container in one.containers:
        if not container.get("ports") or not (container in one.spec["containers"] or lasting(container)):
            continue
        ports = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind)
            if probe is None:
                yield f"{container['name']}: no {kind}"
            elif (probe.get("httpGet") or probe["tcpSocket"])["port"] not in ports:
                yield f"{container['name']}: {kind} asks at a port that is not there"
            elif "host" in (probe.get("httpGet") or probe["tcpSocket"]):
                yield f"{container['name']}: {kind} asks another host"


def alive_while_not_ready(one: Pod) -> Iterator[str]:
    for container in one.containers:
        for kind in ("livenessProbe", *(("startupProbe",) if "serve" in container.get("args", []) else ())):
            if container.get(kind, {}).get("httpGet", {}).get("path") in {"/ready", "/readyz"}:
                yield f"{container['name']}: {kind} kills what drains or cannot record"


def mounts_have_volumes(one: Pod) -> Iterator[str]:
    claimed = [each["metadata"]["name"] for each in one.workload["spec"].get("volumeClaimTemplates", [])]
    volumes = {*(each["name"] for each in one.spec.get("volumes", [])), *claimed}
    for container in one.containers:
        mounts = container.get("volumeMounts", [])
        if missing := {each["name"] for each in mounts} - volumes:
            yield f"{container['name']}: no volumes {missing}"
        paths = [each["mountPath"] for each in mounts]
        if len(set(paths)) < len(paths):
            yield f"{container['name']}: two mounts at one path"
    if unused := volumes - {each["name"] for container in one.containers for each in container.get("volumeMounts", [])}:
        yield f"volumes {unused} are mounted nowhere"


RULES: tuple[Rule, ...] = (
    security_of_the_pod,
    security_of_containers,
    pinned,
    bounded,
    probed,
    alive_while_not_ready,
    mounts_have_volumes,
)


def faults(objects: list[Object]) -> list[str]:
    return [f"{rule.__name__}: {one.name}: {fault}" for rule in RULES for one in pods(objects) for fault in rule(one)]


@pytest.mark.parametrize("overlay", NAMES)
def test_every_pod_keeps_the_rules(overlay: str) -> None:
    assert faults(render(overlay)) == []


BREAKING: dict[str, Callable[[Pod], object]] = {
    "hostNetwork": lambda one: one.spec.update(hostNetwork=True),
    "volume host": lambda one: one.spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "sysctls": lambda one: one.spec["securityContext"].update(sysctls=[{"name": "net.core.somaxconn", "value": "1"}]),
    "token": lambda one: one.spec.pop("automountServiceAccountToken"),
    "service account": lambda one: one.spec.pop("serviceAccountName"),
    "privileged": lambda one: one.container("envoy")["securityContext"].update(privileged=True),
    "escalated": lambda one: one.container("keys")["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda one: one.container("extproc")["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "may be root": lambda one: one.container("envoy")["securityContext"].update(runAsUser=0),
    "seccomp": lambda one: one.spec["securityContext"].pop("seccompProfile"),
    "root can be written": lambda one: one.container("envoy")["securityContext"].update(readOnlyRootFilesystem=False),
    "port of the host": lambda one: one.container("envoy")["ports"][0].update(hostPort=443),
    "not pinned": lambda one: one.container("keys").update(image="registry.acme.example/copilot-extproc:1.0"),
    "no limits": lambda one: one.container("extproc")["resources"].pop("limits"),
    "no requests": lambda one: one.container("envoy")["resources"]["requests"].pop("cpu"),
    "has no bound": lambda one: one.spec["volumes"].append({"name": "more", "emptyDir": {}}),
    "no readinessProbe": lambda one: one.container("envoy").pop("readinessProbe"),
    "no startupProbe": lambda one: one.container("extproc").pop("startupProbe"),
    "port that is not there": lambda one: one.container("envoy")["livenessProbe"]["tcpSocket"].update(port="admin"),
    "another host": lambda one: one.container("envoy")["livenessProbe"]["tcpSocket"].update(host="10.0.0.1"),
    "kills": lambda one: one.container("extproc")["livenessProbe"]["httpGet"].update(path="/readyz"),
    "no volumes": lambda one: one.container("envoy")["volumeMounts"].append({"name": "none", "mountPath": "/x"}),
    "two mounts": lambda one: one.container("envoy")["volumeMounts"].append({"name": "run", "mountPath": "/etc/envoy"}),
    "mounted nowhere": lambda one: one.container("keys").update(volumeMounts=[]),
}


@pytest.mark.parametrize("fault", BREAKING)
def test_a_pod_that_breaks_a_rule_is_found(fault: str) -> None:
    objects = render("egress-gateway")
    BREAKING[fault](pod(objects, "gateway"))
    assert any(fault in one for one in faults(objects)), faults(objects)


# --- how the gateway's pod starts and ends ---------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_extproc_starts_before_envoy_and_ends_after_it(overlay: str) -> None:
    one = pod(render(overlay), "gateway")
    [extproc] = [each for each in one.spec["initContainers"] if lasting(each)]
    assert extproc["args"][0] == "serve"
    assert one.spec["initContainers"][-1] is extproc
    assert one.spec["containers"][0]["name"] == "envoy"


def test_keys_are_installed_before_anything_uses_them() -> None:
    for name in ("gateway", "console"):
        assert pod(render("egress-gateway"), name).containers[0]["args"][:2] == ["keys", "install"]


def test_sidecars_start_before_the_app_in_their_order() -> None:
    for name in ("agent", "nightly"):
        one = pod(render("example-sidecar"), name)
        assert [(each["name"], lasting(each)) for each in one.spec["initContainers"]] == [
            ("copilot-authority", False),
            ("copilot-keys", False),
            ("copilot-extproc", True),
            ("copilot-envoy", True),
        ]


def test_keys_are_mounted_in_the_container_that_installs_them_alone() -> None:
    for overlay, name in (("egress-gateway", "gateway"), ("egress-gateway", "console"), ("example-sidecar", "agent")):
        one = pod(render(overlay), name)
        holders = [
            each["name"]
            for each in one.containers
            if any(mount["mountPath"] == "/mnt/secrets/keys" for mount in each["volumeMounts"])
        ]
        assert holders in (["keys"], ["copilot-keys"])


def test_the_app_beside_a_sidecar_gets_neither_its_identity_nor_its_secrets_nor_the_authoritys_key() -> None:
    for name in ("agent", "nightly"):
        one = pod(render("example-sidecar"), name)
        assert "azure.workload.identity/use" not in one.labels
        [app] = one.spec["containers"]
        own = {mount["name"] for mount in app["volumeMounts"]}
        assert {each for each in own if each.startswith("copilot-")} == {"copilot-trust"}


def test_the_identity_of_the_gateway_is_given_to_what_records_alone() -> None:
    for name, holder in (("gateway", "extproc"), ("console", "console")):
        one = pod(render("egress-gateway"), name)
        assert one.labels["azure.workload.identity/use"] == "true"
        skipped = one.annotations["azure.workload.identity/skip-containers"].split(";")
        assert sorted([*skipped, holder]) == sorted(each["name"] for each in one.containers)


def test_apps_are_told_of_proxy_and_authority_and_keep_their_own_settings() -> None:
    for name in ("agent", "nightly"):
        [app] = pod(render("example-sidecar"), name).spec["containers"]
        told = {each["name"]: each["value"] for each in app["env"]}
        assert told["HTTPS_PROXY"] == "http://127.0.0.1:3128"
        assert told["EXTPROC_TOKEN_FILE"] == "/var/run/secrets/copilot/token"
        bundle = "/etc/copilot-trust/bundle.pem"
        assert {told[each] for each in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")} == {bundle}
        assert told["NODE_EXTRA_CA_CERTS"] == "/etc/copilot-trust/ca.pem"


def test_the_namespace_takes_restricted_pods_only() -> None:
    for overlay in GATEWAYS:
        labels = named(render(overlay), "Namespace", NAMESPACE)["metadata"]["labels"]
        assert {labels[f"pod-security.kubernetes.io/{each}"] for each in ("enforce", "audit", "warn")} == {"restricted"}
        assert not [each for each in labels if each.endswith("-version")]


def test_service_accounts_mount_no_token() -> None:
    for overlay in NAMES:
        for one in of_kind(render(overlay), "ServiceAccount"):
            assert one["automountServiceAccountToken"] is False
