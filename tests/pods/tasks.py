"""What a pod's specification says of a container, as the task of a process; what it may say at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.pods import image
from tests.pods.container import Task
from tests.pods.environment import environment, expand
from tests.pods.network import Host
from tests.pods.strict import Object, known, must_be

_SCHEDULING = ("topologySpreadConstraints", "affinity", "nodeSelector", "tolerations", "priorityClassName")
_POD = (
    "containers", "initContainers", "volumes", "serviceAccountName", "automountServiceAccountToken", "securityContext",
    "terminationGracePeriodSeconds", "dnsPolicy", "enableServiceLinks", "hostname", "subdomain", "restartPolicy",
)  # fmt: skip
_CONTAINER = (
    "name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "ports", "volumeMounts", "resources",
    "securityContext", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "restartPolicy",
    "terminationMessagePolicy",
)  # fmt: skip
_SECURITY = (
    "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "fsGroupChangePolicy", "seccompProfile", "capabilities",
    "allowPrivilegeEscalation", "readOnlyRootFilesystem",
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """What a pod finds on its machine."""

    executor: Executor
    lookup: Callable[[str, str, str], Object]
    """Namespace, kind and name to the object."""
    resolvers: dict[str, str]
    """/etc/resolv.conf by dnsPolicy."""
    trusted: str
    trusted_hash: str
    disks: Path
    """Where claims are."""
    csi: Callable[[str, Object], Path]
    """Namespace and volume to the folder of what a CSI driver mounts."""
    sign: Callable[[str, str, str], str]
    """Namespace, service account and audience to a token of it."""


def checked_pod(pod: Object) -> Object:
    """Return a pod's specification, if all of it is known."""
    what = f"pod {pod['metadata']['name']}"
    known(what, pod["spec"].get("securityContext", {}), *_SECURITY)
    return known(what, pod["spec"], *_POD, *_SCHEDULING)


def checked_container(spec: Object) -> Object:
    """Return a container's specification, if all of it is known."""
    what = f"container {spec['name']}"
    known(what, spec.get("securityContext", {}), *_SECURITY)
    known(what, spec.get("lifecycle", {}), "preStop")
    if "restartPolicy" in spec:
        must_be(f"{what}: restartPolicy", spec["restartPolicy"], "Always")
    return known(what, spec, *_CONTAINER)


def task_of(spec: Object, pod: Object, host: Host, node: Node, folders: Mapping[str, Path]) -> Task:
    """Return the task of a container of a pod; `folders` are the pod's volumes by name."""
    name, pod_spec = spec["name"], pod["spec"]
    security = {**pod_spec.get("securityContext", {}), **spec.get("securityContext", {})}
    environ = environment(spec, pod, host.address, partial(node.lookup, pod["metadata"]["namespace"]))
    command = [expand(part, environ) for part in spec.get("command", image.ENTRYPOINT)]
    uid = security.get("runAsUser", image.USER)
    assert uid != 0, f"{name} would run as root"
    must_be(f"{name}: capabilities", security.get("capabilities"), {"drop": ["ALL"]})
    must_be(f"{name}: allowPrivilegeEscalation", security.get("allowPrivilegeEscalation"), expected=False)
    # Outer ones first, whatever the order they are written in.
    mounts = sorted(spec.get("volumeMounts", []), key=lambda mount: str(mount["mountPath"]))
    resolver = node.resolvers[pod_spec.get("dnsPolicy", "ClusterFirst")]
    return Task(
        argv=command + [expand(part, environ) for part in spec.get("args", [])],
        env={**image.ENVIRONMENT, "HOSTNAME": pod["metadata"]["name"], **environ},
        cwd=spec.get("workingDir", "/"),
        uid=uid,
        gid=security.get("runAsGroup", image.USER if uid == image.USER else 0),
        groups=[security["fsGroup"]] if "fsGroup" in security else [],
        network=host.file,
        image=image.paths(),
        links=image.links(),
        files=image.files(resolver, node.trusted, node.trusted_hash, pod["metadata"]["name"], host.address),
        volumes=[_mount(name, mount, mounts, pod_spec, folders) for mount in mounts],
        read_only_root=security.get("readOnlyRootFilesystem", False),
    )


def _mount(
    container: str, mount: Object, mounts: list[Object], pod_spec: Object, folders: Mapping[str, Path]
) -> tuple[str, str, bool]:
    known(f"{container}: volumeMounts", mount, "name", "mountPath", "readOnly", "subPath")
    source = folders[mount["name"]] / mount.get("subPath", "")
    if "subPath" in mount and not source.exists():
        source.mkdir()
    volume = next(one for one in pod_spec["volumes"] if one["name"] == mount["name"])
    for other in mounts:
        # As kubelet's MakeNestedMountpoints: the place of a volume inside of this one.
        if other["mountPath"].startswith(f"{mount['mountPath']}/"):
            (source / other["mountPath"].removeprefix(f"{mount['mountPath']}/")).mkdir(parents=True, exist_ok=True)
    # ConfigMaps, Secrets and projected volumes can never be written to.
    is_fixed = any(kind in volume for kind in ("configMap", "secret", "projected"))
    return str(source), mount["mountPath"], mount.get("readOnly", False) or is_fixed
