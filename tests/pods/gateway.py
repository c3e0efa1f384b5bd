"""The rendered gateway, and all that is changed in it for these tests: where it records, and how long it waits.

Everything else is what `kubectl apply -k` applies: commands, mounts, users, probes, policies, Envoy's configuration,
the issuer, the exchange of the credential.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from pathlib import Path

import yaml

from extproc.dev import keys
from tests.pods import image
from tests.pods.cluster import LOGIN, NAMESPACE, Cluster, vault_entries
from tests.pods.internet import CREDENTIAL
from tests.pods.network import run
from tests.pods.objects import Objects, render
from tests.pods.strict import Object

# The times of the manifests are for streams of 25 minutes. Here, in seconds:
TOTAL = 15
"""Bound on an exchange."""
DRAIN = 20
"""How long a pod that ends waits for its exchanges."""
GRACE = 60
PERIOD = 1
"""Of readiness probes."""


def objects(overlay: str = "egress-gateway") -> Objects:
    found = rendered(overlay)
    found.change("StatefulSet", NAMESPACE, "gateway", _timing)
    return found


def rendered(overlay: str) -> Objects:
    """Return an overlay with the settings of its gateway changed for here."""
    found = render(image.CHECKOUT / "k8s" / "overlays" / overlay)
    settings = _map_with(found, "gateway.yaml")["metadata"]
    found.change("ConfigMap", settings["namespace"], settings["name"], _settings)
    return found


def _map_with(found: Objects, key: str) -> Object:
    return next(one for one in found.of("ConfigMap") if key in one["data"])


def _settings(config_map: Object) -> None:
    settings = yaml.safe_load(config_map["data"]["gateway.yaml"])
    bounds = {"total_seconds": TOTAL, "idle_seconds": TOTAL, "drain_seconds": 5}
    settings["limits"] = {**settings.get("limits", {}), **bounds}
    # There is no Azure here: each pod records into a file on its own volume, without a witness.
    settings["store"] = {"sqlite": "/var/lib/extproc/record.db"}
    settings.get("recording", {}).pop("checkpoints", None)
    config_map["data"]["gateway.yaml"] = yaml.safe_dump(settings)


def _timing(stateful_set: Object) -> None:
    spec = stateful_set["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = GRACE
    for container in (*spec["initContainers"], *spec["containers"]):
        if "readinessProbe" in container:
            container["readinessProbe"]["periodSeconds"] = PERIOD
        if container["name"] == "envoy":
            words = container["lifecycle"]["preStop"]["exec"]["command"]
            words[words.index("--seconds") + 1] = str(DRAIN)


async def start(cluster: Cluster, pods: int) -> None:
    fill_vault(cluster)
    started = [cluster.prepare_gateway(ordinal) for ordinal in range(pods)]
    await asyncio.gather(*(pod.start() for pod in started))
    await asyncio.gather(*(pod.ready() for pod in started))


def fill_vault(cluster: Cluster) -> None:
    """Put into Key Vault what docs/kubernetes.md says."""
    made = make_keys(cluster.folder / "made-keys")
    for one in vault_entries(cluster.objects):
        if one.get("objectEncoding") == "base64":
            cluster.vault[one["objectName"]] = base64.b64encode((made / one["objectAlias"]).read_bytes())
    cluster.vault |= {"copilot-token": CREDENTIAL.encode(), "graph-client-secret": b"of-no-use"}


def make_keys(folder: Path) -> Path:
    run(sys.executable, "-m", "extproc", "keys", "make", "--out", str(folder))
    return folder


def token(cluster: Cluster, user: str = "alice") -> str:
    """Return an Entra token of a developer, for the tenant, audience and group of the rendered settings."""
    data = _map_with(cluster.objects, "gateway.yaml")["data"]
    entra = next(one for one in yaml.safe_load(data["gateway.yaml"])["issuers"] if one["kind"] == "entra")
    tenant = entra["tenants"][0]
    who = {"tid": tenant, "oid": f"oid-of-{user}", "scp": "access", "ver": "2.0"}
    return keys.mint(
        cluster.key, issuer=f"https://{LOGIN}/{tenant}/v2.0", audience=entra["audiences"][0], user=user,
        groups=yaml.safe_load(data["policy.yaml"])["groups"]["developers"], now=time.time(), extra=who,
    )  # fmt: skip
