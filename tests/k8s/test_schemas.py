from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

from tests.k8s.rendering import NAMES, ROOT, SIDECAR, Object, named, of_kind, pods, render, render_folder

NEWEST = all_versions()[-2:]
SCHEMAS = Path(__file__).parent / "schemas"
CUSTOM = {
    "cert-manager.io/v1": "cert-manager.yaml",
    "monitoring.coreos.com/v1": "prometheus-operator.yaml",
    "secrets-store.csi.x-k8s.io/v1": "secrets-store.yaml",
    "cilium.io/v2": "cilium.yaml",
}
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"},
        "namespace": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def validate(one: Object, version: str) -> None:
    """Raise jsonschema.ValidationError for what a strict API server would refuse."""
    file = CUSTOM.get(one["apiVersion"])
    if file is None:
        kubernetes_validate.validate(one, version, strict=True)
        return
    known = yaml.safe_load((SCHEMAS / file).read_text())
    schema = known[one["kind"]]
    top = {"apiVersion": {"const": one["apiVersion"]}, "kind": {"const": one["kind"]}, "metadata": METADATA}
    whole = {
        "type": "object",
        "additionalProperties": False,
        "required": [*top, "spec"],
        "properties": top | schema["properties"],
    }
    jsonschema.Draft202012Validator(whole).validate(one)
    if one["kind"] == "SecretProviderClass":
        listed = yaml.safe_load(one["spec"]["parameters"]["objects"])
        assert list(listed) == ["array"]
        for text in listed["array"]:
            jsonschema.Draft202012Validator(known["SecretObject"]).validate(yaml.safe_load(text))


@pytest.mark.parametrize("version", NEWEST)
@pytest.mark.parametrize("overlay", NAMES)
def test_every_object_is_valid_strictly(overlay: str, version: str) -> None:
    objects = render(overlay)
    assert objects
    for one in objects:
        validate(one, version)


@pytest.mark.parametrize(
    ("kind", "name", "breaking"),
    [
        ("StatefulSet", "gateway", lambda spec: spec.update(replica=3)),
        ("StatefulSet", "gateway", lambda spec: spec["template"]["spec"].update(hostnetwork=False)),
        ("Service", "gateway", lambda spec: spec["ports"][0].update(port="https")),
        ("NetworkPolicy", "deny-all", lambda spec: spec.update(policyType=["Ingress"])),
        ("HorizontalPodAutoscaler", "gateway", lambda spec: spec["behavior"].update(scaledown={})),
        ("Certificate", "proxy-tls", lambda spec: spec.update(renewbefore="1h")),
        ("Certificate", "proxy-tls", lambda spec: spec["privateKey"].update(rotationPolicy="Sometimes")),
        ("Issuer", "interception", lambda spec: spec["ca"].pop("secretName")),
        ("PodMonitor", "extproc", lambda spec: spec["podMetricsEndpoints"][0].update(targetport=9464)),
        ("PrometheusRule", "copilot-extproc", lambda spec: spec["groups"][0]["rules"][0].update(severity="high")),
        ("SecretProviderClass", "gateway-keys", lambda spec: spec.update(secretObjects=[])),
        ("SecretProviderClass", "gateway-keys", lambda spec: spec["parameters"].update(clientId="x")),
        ("SecretProviderClass", "gateway-keys", lambda spec: spec["parameters"].update(clientID="site")),
        (
            "SecretProviderClass",
            "gateway-keys",
            lambda spec: spec["parameters"].update(objects="array:\n- |\n  objectname: x\n"),
        ),
        ("CiliumNetworkPolicy", "github", lambda spec: spec["egress"][0].update(toFqdns=[])),
        ("CiliumNetworkPolicy", "gateway-dns", lambda spec: spec["egress"][0]["toPorts"][0].update(port="53")),
        ("CiliumClusterwideNetworkPolicy", "copilot-by-the-gateway-alone", lambda spec: spec.pop("egress")),
    ],
)
def test_a_field_that_is_unknown_missing_or_of_the_wrong_type_is_found(
    kind: str, name: str, breaking: Callable[[Any], object]
) -> None:
    one = named(render("egress-gateway"), kind, name)
    validate(one, NEWEST[-1])
    broken = copy.deepcopy(one)
    breaking(broken["spec"])
    with pytest.raises(jsonschema.ValidationError):
        validate(broken, NEWEST[-1])


def test_the_rules_of_the_operator_are_those_of_the_file() -> None:
    # How to make it: the head of prometheusrule.yaml, then alerts.yaml from `groups:` on, indented by two.
    rule = yaml.safe_load((ROOT / "k8s/components/monitoring/prometheusrule.yaml").read_text())
    assert rule["spec"] == yaml.safe_load((ROOT / "k8s/monitoring/alerts.yaml").read_text())


def test_the_jobs_have_the_names_that_alerts_and_dashboards_ask_for() -> None:
    found = of_kind(render("egress-gateway"), "PodMonitor")
    jobs = {one["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["replacement"] for one in found}
    assert jobs == {"extproc", "envoy"}
    assert all(f'job="{job}"' in (ROOT / "k8s/monitoring/alerts.yaml").read_text() for job in jobs)


def test_dashboards_are_where_grafana_looks_and_the_alerts_are_there_once() -> None:
    objects = render("egress-gateway")
    dashboards = named(objects, "ConfigMap", "extproc-dashboards")
    assert dashboards["metadata"]["namespace"] == "monitoring"
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert not [one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == "extproc-alerts"]


def test_the_sidecar_is_the_same_for_every_kind_of_workload(tmp_path: Path) -> None:
    for folder in ("k8s", "envoy"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    workload = tmp_path / "k8s/overlays" / SIDECAR / "workload.yaml"
    workload.write_text(workload.read_text().replace("kind: Deployment", "kind: StatefulSet"))
    found = [*pods(render(SIDECAR)), *pods(render_folder(workload.parent))]
    sidecars = {each.workload["kind"]: [one for one in each.containers if "copilot-" in one["name"]] for each in found}
    assert set(sidecars) == {"Deployment", "StatefulSet", "Job"}
    assert sidecars["Deployment"] == sidecars["StatefulSet"] == sidecars["Job"]
    assert len(sidecars["Job"]) == 4
