"""What the overlays render to, and how to find one's way in it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from extproc import config
from extproc.config import Config
from tests.needing import not_tested

ROOT = Path(__file__).parent.parent.parent
OVERLAYS = ROOT / "k8s" / "overlays"
NAMES = tuple(sorted(one.name for one in OVERLAYS.iterdir() if one.is_dir()))
ON_AKS = ("egress-gateway", "egress-gateway-forward-proxy")
GATEWAYS = (*ON_AKS, "dev")
SIDECAR = "example-sidecar"
NAMESPACE = "copilot-gateway"

Object = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "Job", "DaemonSet")


def kustomize() -> list[str]:
    """Return the command that renders a folder; kubectl has one, and it is a program of its own, too."""
    if found := shutil.which("kubectl"):
        return [found, "kustomize"]
    if found := shutil.which("kustomize"):
        return [found, "build"]
    return not_tested("kubectl is missing (and kustomize): no manifest was rendered")


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - kubectl
        [*kustomize(), str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # What is deprecated is a warning: it would be an error one day.
    assert not done.stderr, done.stderr
    return done.stdout


def render(name: str) -> list[Object]:
    """Return the objects of an overlay, each time anew: tests break them."""
    return render_folder(OVERLAYS / name)


def render_folder(folder: Path) -> list[Object]:
    return [one for one in yaml.load_all(_rendered(folder), Loader=yaml.CSafeLoader) if one is not None]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """Return the object; a ConfigMap also by its name without the hash of its content."""
    found = [
        one
        for one in of_kind(objects, kind)
        if one["metadata"]["name"] == name
        or (kind == "ConfigMap" and one["metadata"]["name"].rpartition("-")[0] == name)
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


@dataclass(frozen=True, slots=True)
class Pod:
    """The template of a workload's pods."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Object
    workload: Object

    @property
    def containers(self) -> list[Object]:
        """Return all of them, in the order in which they start."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        return next(one for one in self.containers if one["name"] == name)


def pods(objects: list[Object]) -> list[Pod]:
    return [
        Pod(
            name=one["metadata"]["name"],
            namespace=one["metadata"].get("namespace", "default"),
            labels=one["spec"]["template"]["metadata"].get("labels", {}),
            annotations=one["spec"]["template"]["metadata"].get("annotations", {}),
            spec=one["spec"]["template"]["spec"],
            workload=one,
        )
        for one in of_kind(objects, *WORKLOADS)
    ]


def pod(objects: list[Object], name: str) -> Pod:
    return next(one for one in pods(objects) if one.name == name)


def lasting(one: Object) -> bool:
    """Say whether a container runs as long as its pod: init containers only as native sidecars."""
    return one.get("restartPolicy") == "Always"


def values(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no others, with its place."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        yield at, value
    for key, child in children or ():
        yield from values(child, f"{at}.{key}")


def settings_of(objects: list[Object], folder: Path) -> Config:
    """Load what is mounted, as the service does: the overlay's files may differ from what was rendered."""
    name = "copilot-settings" if [each for each in pods(objects) if each.name == "agent"] else "settings"
    for file, text in named(objects, "ConfigMap", name)["data"].items():
        (folder / file).write_text(text)
    return config.load(folder / "gateway.yaml")
