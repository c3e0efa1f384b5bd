"""Names that stand in several places: hosts that are read, values of the site, and what the guide says of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from extproc.certificates.names import confinement
from extproc.intercepted import DEFAULT_HOSTS
from tests.k8s.rendering import (
    GATEWAYS,
    ON_AKS,
    OVERLAYS,
    ROOT,
    SIDECAR,
    named,
    of_kind,
    pod,
    pods,
    render,
    settings_of,
)

# --- hosts -----------------------------------------------------------------------------------------------------------


def test_dns_leads_every_intercepted_host_to_the_service() -> None:
    objects = render("egress-gateway")
    text = named(objects, "ConfigMap", "coredns-custom")["data"]["copilot-gateway.override"]
    rules = [line.split() for line in text.splitlines()]
    service = named(objects, "Service", "gateway")["metadata"]
    target = f"{service['name']}.{service['namespace']}.svc.cluster.local"
    assert [(*rule[:3], *rule[4:]) for rule in rules] == [("rewrite", "name", "exact", target, "answer", "auto")] * len(
        rules
    )
    assert tuple(rule[3] for rule in rules) == DEFAULT_HOSTS
    # Without transparent mode nobody's DNS is touched.
    assert not [each for each in render("egress-gateway-forward-proxy") if each["metadata"]["name"] == "coredns-custom"]


def test_a_pod_that_is_led_to_the_gateway_by_dns_is_never_the_gateway_itself() -> None:
    for overlay in GATEWAYS:
        assert pod(render(overlay), "gateway").spec["dnsPolicy"] == "Default"


def test_the_certificate_is_for_every_intercepted_host_and_the_authority_may_sign_for_no_other() -> None:
    for overlay in ON_AKS:
        objects = render(overlay)
        assert tuple(named(objects, "Certificate", "proxy-tls")["spec"]["dnsNames"]) == DEFAULT_HOSTS
        authority = named(objects, "Certificate", "interception-ca")["spec"]
        own = named(objects, "Certificate", "gateway-tls")["spec"]["dnsNames"]
        constraints = confinement([*DEFAULT_HOSTS, *own])
        permitted = {name.value for name in constraints.permitted_subtrees or [] if name.value != "localhost"}
        assert set(authority["nameConstraints"]["permitted"]["dnsDomains"]) == permitted
        assert authority["nameConstraints"]["critical"] is True


def test_leaves_get_a_new_key_with_each_certificate_and_the_authority_keeps_its_own() -> None:
    for one in of_kind(render("egress-gateway"), "Certificate"):
        kept = one["spec"].get("isCA", False)
        assert one["spec"]["privateKey"]["rotationPolicy"] == ("Never" if kept else "Always")


def test_cilium_lets_the_gateway_reach_the_intercepted_hosts_and_envoys_clusters() -> None:
    objects = render("egress-gateway")
    found = named(objects, "CiliumNetworkPolicy", "github")["spec"]["egress"][0]["toFQDNs"]
    clusters = yaml.safe_load(named(objects, "ConfigMap", "envoy")["data"]["upstreams.yaml"])["resources"]
    assert {each["matchName"] for each in found} == {*DEFAULT_HOSTS, *(each["name"] for each in clusters)}


# --- the site's values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ON_AKS)
def test_the_sites_values_are_those_of_its_settings(overlay: str, tmp_path: Path) -> None:
    lines = (OVERLAYS / overlay / "site" / "site.env").read_text().splitlines()
    site = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    objects = render(overlay)
    settings = settings_of(objects, tmp_path).settings
    assert settings.store.cosmos is not None
    assert settings.store.cosmos.endpoint == f"https://{site['COSMOS_ACCOUNT']}.documents.azure.com:443/"
    [witness] = settings.recording.checkpoints.witnesses
    assert getattr(witness, "account_url", None) == f"https://{site['WITNESS_ACCOUNT']}.blob.core.windows.net"
    assert settings.sign_in is not None
    assert settings.sign_in.gateway == f"https://{site['GATEWAY_HOST']}"
    assert [getattr(each, "tenants", None) for each in settings.issuers] == [[site["TENANT_ID"]]]
    expected = f"https://{site['GATEWAY_HOST']}:3129" if overlay.endswith("forward-proxy") else None
    assert settings.sign_in.proxy == expected
    # Each is used, and its placeholder is nowhere left.
    rendered = yaml.safe_dump_all(objects)
    assert [name for name, value in site.items() if value not in rendered] == []
    assert not re.search(r": site$|192\.0\.2\.", rendered, re.MULTILINE)
    assert not [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == "site"]


def test_the_guide_explains_every_value_of_the_site() -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    for file in OVERLAYS.glob("*/site/site.env"):
        for name in re.findall(r"^([A-Z_]+)=", file.read_text(), re.MULTILINE):
            assert f"`{name}`" in guide, name


def test_the_image_exists_nowhere_until_the_site_names_its_own() -> None:
    for overlay in GATEWAYS:
        images = {each["image"] for one in pods(render(overlay)) for each in one.containers}
        assert images == {f"registry.acme.example/copilot-extproc@sha256:{'0' * 64}"}


def test_the_guide_names_files_and_pages_that_exist() -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    paths = set(re.findall(r"\b((?:k8s|envoy)/[a-z0-9/.-]*[a-z0-9])", guide))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    known = {each.name for each in (ROOT / "k8s" / "components").iterdir()}
    assert {each for each in known if f"`k8s/components/{each}`" not in guide} == set()


def test_every_secret_of_the_vault_is_in_the_guides_by_its_name() -> None:
    guides = [(ROOT / "docs" / name).read_text() for name in ("kubernetes.md", "azure.md")]
    for overlay in (*ON_AKS, SIDECAR):
        for one in of_kind(render(overlay), "SecretProviderClass"):
            for name in re.findall(r"objectName: (\S+)", one["spec"]["parameters"]["objects"]):
                for guide in guides:
                    assert re.search(rf"(?<![\w-]){name}(?![\w-])", guide), name


def test_the_guides_remove_the_policies_that_names_replace() -> None:
    # An apply does not: left beside the policies by names, those by addresses would keep the gateway open to the world.
    patches = yaml.safe_load((ROOT / "k8s/components/cilium/kustomization.yaml").read_text())["patches"]
    names = " ".join(each["target"]["name"] for each in patches)
    for guide in ("kubernetes.md", "azure.md"):
        assert f"kubectl -n copilot-gateway delete networkpolicy {names}" in (ROOT / "docs" / guide).read_text()
