"""Envoy with what the manifests mount, and the scripts of their init containers, run for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.certificates import operations
from extproc.certificates.operations import Wanted
from extproc.dev.runner import envoy_binary
from tests.k8s.rendering import GATEWAYS, Object, named, pod, render

PORTS = {8080, 8443, 3128, 3129, 9465}


def mounted(objects: list[Object], folder: Path) -> Path:
    """Write the ConfigMap of Envoy's files as it is mounted, but below `folder`, and certificates."""
    etc = folder / "envoy"
    etc.mkdir(parents=True)
    for name, text in named(objects, "ConfigMap", "envoy")["data"].items():
        (etc / name).write_text(text.replace("/etc/envoy", str(etc)))
    operations.init(etc / "tls", Wanted(hosts=(), names=("gateway.acme.example",)), time.time(), None)
    return etc


def validated(etc: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - Envoy
        [envoy_binary(), "--mode", "validate", "-c", str(etc / "envoy.yaml")],
        cwd=etc,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def filters(value: Any) -> list[Any]:
    """Return the configuration of every ext_proc filter in a configuration."""
    if isinstance(value, dict):
        own = [value] if str(value.get("@type", "")).endswith("ext_proc.v3.ExternalProcessor") else []
        return own + [one for each in value.values() for one in filters(each)]
    return [one for each in value for one in filters(each)] if isinstance(value, list) else []


def listeners(text: str) -> dict[int, str]:
    listed = [each["address"] for each in yaml.safe_load(text)["static_resources"]["listeners"] if "address" in each]
    return {each["socket_address"]["port_value"]: each["socket_address"]["address"] for each in listed}


@pytest.mark.e2e
@pytest.mark.parametrize("overlay", GATEWAYS)
def test_envoy_takes_the_rendered_files(overlay: str, tmp_path: Path) -> None:
    done = validated(mounted(render(overlay), tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.e2e
def test_envoy_does_not_take_broken_ones(tmp_path: Path) -> None:
    etc = mounted(render("egress-gateway"), tmp_path)
    text = (etc / "envoy.yaml").read_text()
    (etc / "envoy.yaml").write_text(text.replace("failure_mode_allow: false", "failure_mode_permit: false"))
    assert validated(etc).returncode != 0


@pytest.mark.parametrize("overlay", [*GATEWAYS, "example-sidecar"])
def test_an_exchange_that_nobody_decided_fails_in_every_filter(overlay: str) -> None:
    envoy = yaml.safe_load(named(render(overlay), "ConfigMap", "envoy")["data"]["envoy.yaml"])
    found = filters(json.loads(json.dumps(envoy)))
    assert found
    assert all(each["failure_mode_allow"] is False for each in found)


@pytest.mark.parametrize("overlay", GATEWAYS)
def test_admin_is_on_the_loopback_and_the_ports_of_the_pod_are_listeners(overlay: str) -> None:
    objects = render(overlay)
    text = named(objects, "ConfigMap", "envoy")["data"]["envoy.yaml"]
    assert yaml.safe_load(text)["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    assert set(listeners(text)) == PORTS
    declared = {each["containerPort"] for each in pod(objects, "gateway").container("envoy")["ports"]}
    assert declared <= PORTS
    # What has no TLS is no port of the pod: neither a Service nor a policy names it.
    assert not declared & {8080, 3128, 9901}


def test_the_certificate_mount_has_the_names_that_envoy_reads() -> None:
    objects = render("egress-gateway")
    envoy = named(objects, "ConfigMap", "envoy")["data"]
    mounts = {each["mountPath"]: each["name"] for each in pod(objects, "gateway").container("envoy")["volumeMounts"]}
    [volume] = [each for each in pod(objects, "gateway").spec["volumes"] if each["name"] == mounts["/etc/envoy/tls"]]
    there = {item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}
    assert {f"/etc/envoy/tls/{each}" for each in there} == {
        resource["tls_certificate"][key]["filename"]
        for name in ("tls.yaml", "proxy-tls.yaml")
        for resource in yaml.safe_load(envoy[name])["resources"]
        for key in ("certificate_chain", "private_key")
    }


# --- scripts ---------------------------------------------------------------------------------------------------------


def run(container: Object, folder: Path, places: dict[str, Path]) -> None:
    """Run the script of an init container with the shell, its paths below `folder`."""
    [script] = container["args"]
    program = folder / "extproc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m extproc "$@"\n')
    program.chmod(0o755)
    for path, place in sorted({**places, "/opt/extproc/bin/extproc": program}.items(), key=lambda one: -len(one[0])):
        script = script.replace(path, str(place))
    done = subprocess.run(  # noqa: S603 - the shell
        [*container["command"], script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    for name, text in named(render("dev"), "ConfigMap", "settings")["data"].items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.e2e
def test_the_sidecars_files_have_their_listeners_on_the_loopback_and_envoy_takes_them(
    tmp_path: Path, settings: Path
) -> None:
    source, envoy, trust = tmp_path / "source", tmp_path / "envoy", tmp_path / "trust"
    for folder in (source, envoy / "tls", trust):
        folder.mkdir(parents=True)
    objects = render("example-sidecar")
    before = named(objects, "ConfigMap", "envoy")["data"]
    for name, text in before.items():
        (source / name).write_text(text)
    system = tmp_path / "system.crt"
    system.write_text("system\n")
    container = pod(objects, "agent").container("copilot-authority")
    places = {
        "/etc/envoy-source": source,
        "/etc/envoy": envoy,
        "/etc/copilot-trust": trust,
        "/etc/extproc": settings,
        "/etc/ssl/certs/ca-certificates.crt": system,
    }
    run(container, tmp_path, places)
    after = (envoy / "envoy.yaml").read_text()
    assert listeners(after) == {port: "0.0.0.0" if port == 9465 else "127.0.0.1" for port in PORTS}
    # And nothing else changed.
    changed = [
        pair for pair in zip(before["envoy.yaml"].splitlines(), after.splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert len(changed) == len(PORTS) - 1
    authority = (trust / "ca.pem").read_text()
    assert (trust / "bundle.pem").read_text() == "system\n" + authority
    assert all((trust / name).stat().st_mode & 0o044 == 0o044 for name in ("ca.pem", "bundle.pem"))
    for file in envoy.glob("*.yaml"):
        file.write_text(file.read_text().replace("/etc/envoy", str(envoy)))
    done = validated(envoy)
    assert done.returncode == 0, done.stderr[-2000:]
    # A pod whose containers are started anew keeps its authority: the app has read it.
    run(container, tmp_path, places)
    assert (trust / "ca.pem").read_text() == authority


def test_certificates_of_dev_are_made_once_and_renewed_at_each_start(tmp_path: Path, settings: Path) -> None:
    container = pod(render("dev"), "gateway").container("certificates")
    places = {"/var/lib/extproc": tmp_path / "state", "/etc/extproc": settings}
    (tmp_path / "state").mkdir()
    run(container, tmp_path, places)
    made = {each.name: each.read_bytes() for each in (tmp_path / "state" / "ca").iterdir()}
    assert {"ca.pem", "tls.crt", "tls.key", "proxy.crt", "proxy.key"} <= set(made)
    run(container, tmp_path, places)
    assert (tmp_path / "state" / "ca" / "ca.pem").read_bytes() == made["ca.pem"]
