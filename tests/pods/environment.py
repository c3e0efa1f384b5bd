"""The environment of a container, and the expansion of $(NAME) in it, in commands and in arguments."""

from __future__ import annotations

import re

from tests.pods.strict import Object, known, one_of
from tests.pods.volumes import Lookup


def environment(container: Object, pod: Object, address: str, lookup: Lookup) -> dict[str, str]:
    made: dict[str, str] = {}
    for entry in container.get("env", []):
        known(f"env {entry['name']}", entry, "name", "value", "valueFrom")
        made[entry["name"]] = expand(entry["value"], made) if "value" in entry else _from(entry, pod, address, lookup)
    return made


def expand(text: str, environ: dict[str, str]) -> str:
    """Replace $(NAME); $$ is a dollar, and a name that is not there stays as it is."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_.-][\w.-]*)\)",
        lambda found: "$" if found[1] is None else environ.get(found[1], found[0]),
        text,
    )


def _from(entry: Object, pod: Object, address: str, lookup: Lookup) -> str:
    what, source = f"env {entry['name']}", entry["valueFrom"]
    match one_of(what, source, ("fieldRef", "configMapKeyRef", "secretKeyRef", "resourceFieldRef")):
        case "fieldRef":
            fields = {
                "metadata.name": pod["metadata"]["name"],
                "metadata.namespace": pod["metadata"]["namespace"],
                "metadata.uid": pod["metadata"]["name"],
                "status.podIP": address,
                "spec.nodeName": "node",
            }
            return str(fields[source["fieldRef"]["fieldPath"]])
        case "configMapKeyRef":
            reference = source["configMapKeyRef"]
            return str(lookup("ConfigMap", reference["name"])["data"][reference["key"]])
        case kind:
            raise ValueError(f"{what}: the simulation does not know {kind}")
