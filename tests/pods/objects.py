"""Objects as `kubectl kustomize` renders them, and what controllers make of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.pods.network import run
from tests.pods.strict import Object


class Objects:
    """What is applied to a cluster; controllers and tests add to it."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._objects = {_key(one): one for one in objects}

    def of(self, kind: str) -> list[Object]:
        return [one for one in self._objects.values() if one["kind"] == kind]

    def get(self, kind: str, namespace: str, name: str) -> Object:
        return self._objects[kind, namespace, name]

    def apply(self, one: Object) -> None:
        self._objects[_key(one)] = one

    def delete(self, kind: str) -> list[Object]:
        """Take out all of a kind, and return them."""
        return [self._objects.pop(_key(one)) for one in self.of(kind)]

    def change(self, kind: str, namespace: str, name: str, change: Callable[[Any], None]) -> None:
        """Change a copy of an object, and put it in place of the one that is there."""
        changed = copy.deepcopy(self.get(kind, namespace, name))
        change(changed)
        self.apply(changed)


def _key(one: Object) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def render(folder: Path) -> Objects:
    """Return what `kubectl apply -k` would apply."""
    return Objects(one for one in yaml.safe_load_all(run("kubectl", "kustomize", str(folder))) if one)


def stateful_pod(owner: Object, ordinal: int) -> Object:
    """Return the pod of a StatefulSet with this number; its claims are named by volume and pod."""
    pod: Object = copy.deepcopy(owner["spec"]["template"])
    name = f"{owner['metadata']['name']}-{ordinal}"
    pod["metadata"] |= {"name": name, "namespace": owner["metadata"]["namespace"]}
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = name
    for claim in owner["spec"].get("volumeClaimTemplates", []):
        volume = claim["metadata"]["name"]
        source = {"persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}
        pod["spec"].setdefault("volumes", []).append({"name": volume, **source})
    return pod


def deployed_pod(owner: Object) -> Object:
    """Return a pod of a Deployment."""
    pod: Object = copy.deepcopy(owner["spec"]["template"])
    pod["metadata"] |= {"name": owner["metadata"]["name"], "namespace": owner["metadata"]["namespace"]}
    return pod


def rewrites(corefile: str) -> list[list[str]]:
    """Return the rules of CoreDNS's plug-in `rewrite` in a part of a Corefile, as pairs for `dns.py`."""
    found = []
    for line in corefile.splitlines():
        words = line.split("#")[0].split()
        if not words or words[0] != "rewrite":
            continue
        words = [word for word in words[1:] if word not in ("stop", "continue", "name")]
        kind = words.pop(0) if words[0] in ("exact", "regex", "suffix", "answer") else "exact"
        # `answer auto` leads the answers back to the name that was asked for, which `dns.py` does anyway.
        pattern, target = words[0], words[1]
        assert kind in ("exact", "regex"), f"the simulation does not know: {line}"
        source = re.escape(pattern.rstrip(".")) if kind == "exact" else pattern.replace(r"\.$", "$").rstrip(".")
        found.append([source, re.sub(r"\{(\d+)\}", r"\\\1", target.rstrip("."))])
    return found
