"""Numbers and names that stand in several places of the manifests, and must be the same in all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc import config
from tests.k8s.rendering import (
    GATEWAYS,
    ON_AKS,
    SIDECAR,
    Object,
    lasting,
    named,
    of_kind,
    pod,
    pods,
    render,
    settings_of,
)

GIB = 1 << 30


@pytest.mark.parametrize("overlay", [*GATEWAYS, SIDECAR])
def test_the_settings_and_the_policy_are_loaded(overlay: str, tmp_path: Path) -> None:
    found = settings_of(render(overlay), tmp_path)
    assert found.settings.state == Path("/var/lib/extproc")


@pytest.mark.parametrize("overlay", [*GATEWAYS, SIDECAR])
def test_files_that_settings_name_are_on_a_mount(overlay: str, tmp_path: Path) -> None:
    objects = render(overlay)
    settings = settings_of(objects, tmp_path).settings
    service = next(each for each in pods(objects)[-1].containers if "serve" in each.get("args", []))
    mounts = {each["mountPath"] for each in service["volumeMounts"]}
    files = [settings.state, settings.rule_cache, *(each.file for each in settings.credentials.values() if each.file)]
    if settings.sign_in is not None and settings.sign_in.ca_file is not None:
        files.append(settings.sign_in.ca_file)
    for file in files:
        assert any(file.is_relative_to(mount) for mount in mounts), file


# --- time ------------------------------------------------------------------------------------------------------------


def times(objects: list[Object], settings: config.Settings) -> Iterator[str]:
    """Yield what is cut before its bound: Envoy must wait for the longest exchange, and Kubernetes for Envoy."""
    one = pod(objects, "gateway")
    hook = one.container("envoy").get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    if "drain" not in hook:
        yield "Envoy is not drained"
        return
    drain, grace = float(hook[hook.index("--seconds") + 1]), one.spec["terminationGracePeriodSeconds"]
    # The pause before listeners are drained is a part of the drain, in which exchanges still begin.
    if drain < settings.limits.total_seconds + 5:
        yield f"drain {drain} s < exchanges {settings.limits.total_seconds} s"
    # docs/configuration.md, "Signals": drain_seconds and 20 s.
    if grace < drain + settings.limits.drain_seconds + 20:
        yield f"grace {grace} s < drain {drain} s and the end of extproc"
    # AKS waits 30 minutes for a node to be drained, unless it is told otherwise.
    if grace > 1800:
        yield f"grace {grace} s is longer than a node is waited for"


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_no_exchange_is_cut_by_a_rolling_update(overlay: str, tmp_path: Path) -> None:
    objects = render(overlay)
    assert list(times(objects, settings_of(objects, tmp_path).settings)) == []


@pytest.mark.parametrize(
    ("breaking", "fault"),
    [
        (lambda one: one.container("envoy").pop("lifecycle"), "not drained"),
        (
            lambda one: one.container("envoy")["lifecycle"]["preStop"]["exec"]["command"].__setitem__(-1, "900"),
            "< exchanges",
        ),
        (lambda one: one.spec.update(terminationGracePeriodSeconds=1560), "the end of extproc"),
        (lambda one: one.spec.update(terminationGracePeriodSeconds=7200), "a node"),
    ],
)
def test_times_that_cut_exchanges_are_found(breaking: Callable[[Any], object], fault: str, tmp_path: Path) -> None:
    objects = render("egress-gateway")
    settings = settings_of(objects, tmp_path).settings
    breaking(pod(objects, "gateway"))
    assert any(fault in one for one in times(objects, settings))


# --- volumes ---------------------------------------------------------------------------------------------------------


def volatile(objects: list[Object]) -> Iterator[str]:
    """Yield state directories that do not outlive their pod."""
    for one in pods(objects):
        claims = {each["metadata"]["name"] for each in one.workload["spec"].get("volumeClaimTemplates", [])}
        claims |= {volume["name"] for volume in one.spec["volumes"] if "persistentVolumeClaim" in volume}
        for container in one.containers:
            at = {each["mountPath"]: each["name"] for each in container.get("volumeMounts", [])}
            if at.get("/var/lib/extproc", next(iter(claims), "")) not in claims:
                yield f"{one.name}/{container['name']}: the state is not on a claim"
    for each in of_kind(objects, "StatefulSet"):
        if set(each["spec"].get("persistentVolumeClaimRetentionPolicy", {}).values()) != {"Retain"}:
            yield f"{each['metadata']['name']}: volumes are removed"


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_the_spool_outlives_its_pod(overlay: str) -> None:
    assert list(volatile(render(overlay))) == []


@pytest.mark.parametrize(
    ("breaking", "fault"),
    [
        (
            lambda one: one.workload["spec"]["persistentVolumeClaimRetentionPolicy"].update(whenScaled="Delete"),
            "volumes are removed",
        ),
        (lambda one: one.workload["spec"].pop("persistentVolumeClaimRetentionPolicy"), "volumes are removed"),
        (
            lambda one: one.container("extproc")["volumeMounts"].append(
                {"name": "tmp", "mountPath": "/var/lib/extproc"}
            ),
            "not on",
        ),
        (lambda one: one.workload["spec"].update(volumeClaimTemplates=[]), "not on a claim"),
    ],
)
def test_a_spool_that_goes_with_its_pod_is_found(breaking: Callable[[Any], object], fault: str) -> None:
    objects = render("egress-gateway")
    breaking(pod(objects, "gateway"))
    assert any(fault in one for one in volatile(objects))


def quantity(text: str) -> float:
    """Return a quantity in bytes."""
    number, unit = re.fullmatch(r"([0-9]+)([MG]i)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"Mi": 1 << 20, "Gi": GIB}[unit]


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_the_spool_has_room_on_its_volume(overlay: str, tmp_path: Path) -> None:
    objects = render(overlay)
    settings = settings_of(objects, tmp_path).settings
    [claim] = pod(objects, "gateway").workload["spec"]["volumeClaimTemplates"]
    spool = settings.recording.spool
    room = quantity(claim["spec"]["resources"]["requests"]["storage"])
    # Half of it: what runs when the spool is full is written all the same, and approvals and the search lie beside it.
    assert 2 * (spool.max_bytes + settings.workers * spool.reserve_bytes) <= room + 128 * (1 << 20)


@pytest.mark.parametrize("overlay", [*GATEWAYS, SIDECAR])
def test_envoy_refuses_before_the_kernel_kills_it(overlay: str) -> None:
    objects = render(overlay)
    envoy = yaml.safe_load(named(objects, "ConfigMap", "envoy")["data"]["envoy.yaml"])
    [heap] = [
        each["typed_config"]["max_heap_size_bytes"]
        for each in envoy["overload_manager"]["resource_monitors"]
        if each["name"].endswith("fixed_heap")
    ]
    for one in pods(objects):
        for container in one.containers:
            if container.get("command") == ["/opt/extproc/bin/envoy"]:
                assert quantity(container["resources"]["limits"]["memory"]) > heap * 1.25


# --- scaling ---------------------------------------------------------------------------------------------------------


def test_a_node_can_be_drained_whatever_the_number_of_replicas() -> None:
    for overlay in GATEWAYS:
        [budget] = of_kind(render(overlay), "PodDisruptionBudget")
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


def test_replicas_are_the_autoscalers_alone_and_it_scales_down_slowly() -> None:
    for overlay in ON_AKS:
        objects = render(overlay)
        assert "replicas" not in pod(objects, "gateway").workload["spec"]
        spec = named(objects, "HorizontalPodAutoscaler", "gateway")["spec"]
        assert spec["minReplicas"] >= 2
        metrics = {(each.get("pods") or {"metric": each["resource"]})["metric"]["name"] for each in spec["metrics"]}
        assert metrics == {"cpu", "extproc_streams_open"}
        down = spec["behavior"]["scaleDown"]
        grace = pod(objects, "gateway").spec["terminationGracePeriodSeconds"]
        assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 1800}]
        assert down["policies"][0]["periodSeconds"] > grace


def test_the_console_asks_all_pods_by_the_name_that_leads_to_them(tmp_path: Path) -> None:
    objects = render("egress-gateway")
    service = named(objects, "Service", pod(objects, "gateway").workload["spec"]["serviceName"])
    [port] = [each["port"] for each in service["spec"]["ports"] if each["name"] == "operations"]
    assert settings_of(objects, tmp_path).settings.console.services == [
        f"http://{service['metadata']['name']}.copilot-gateway.svc.cluster.local:{port}"
    ]


def test_rules_are_cached_in_a_folder_that_the_service_makes_for_itself(tmp_path: Path) -> None:
    # The volume's own folder may be written by others, and the engine takes no such cache.
    objects = render("egress-gateway")
    folder = settings_of(objects, tmp_path).settings.rule_cache
    mounts = {each["mountPath"] for each in pod(objects, "gateway").container("extproc")["volumeMounts"]}
    assert str(folder) not in mounts
    assert str(folder.parent) in mounts


@pytest.mark.parametrize("overlay", [*GATEWAYS, SIDECAR])
def test_envoy_knows_a_socket_for_each_worker(overlay: str, tmp_path: Path) -> None:
    objects = render(overlay)
    settings = settings_of(objects, tmp_path).settings
    listed = named(objects, "ConfigMap", "envoy")["data"]["workers.yaml"]
    known = re.findall(r"pipe: \{ path: (\S+) \}", listed)
    for worker in range(settings.workers):
        assert [each.removeprefix("unix:") for each in settings.listen_of(worker)] == [known[worker]]


def test_replicas_are_spread_over_zones_and_hosts() -> None:
    one = pod(render("egress-gateway"), "gateway")
    spread = {each["topologyKey"]: each for each in one.spec["topologySpreadConstraints"]}
    assert set(spread) == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    for each in spread.values():
        assert each["labelSelector"]["matchLabels"].items() <= one.labels.items()


def test_rotated_files_reach_what_reads_them_since_no_mount_is_a_subpath() -> None:
    for overlay in (*ON_AKS, SIDECAR):
        for one in pods(render(overlay)):
            for container in one.containers:
                assert not [each for each in container.get("volumeMounts", []) if "subPath" in each]


def test_one_sidecar_at_a_time_reads_the_key_of_envoys_certificates() -> None:
    one = pod(render("egress-gateway"), "gateway")
    holders = [
        each["name"] for each in one.containers if any(mount["name"] == "tls" for mount in each.get("volumeMounts", []))
    ]
    assert holders == ["envoy"]
    assert [lasting(each) for each in one.containers if each["name"] == "envoy"] == [False]
