"""The whole cluster on this machine: the rendered gateway's pods, an app's pod, DNS, and the internet outside of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import yaml

from extproc.dev import keys
from tests.pods import cilium, image, rules
from tests.pods.authority import CertificateAuthority
from tests.pods.kubelet import Pod
from tests.pods.network import FOLDERS, MEMORY, Host, Network
from tests.pods.objects import Objects, rewrites, stateful_pod
from tests.pods.strict import Object, known, must_be
from tests.pods.tasks import Node

NAMESPACE, APPS = "copilot-gateway", "team-a"
GITHUB, ISSUER, NODE_DNS, DNS_POD, DNS = "140.82.112.21", "20.190.128.10", "168.63.129.16", "10.244.0.53", "10.96.0.10"
LOGIN = "login.microsoftonline.com"
GITHUB_HOSTS = (
    "api.githubcopilot.com", "api.individual.githubcopilot.com", "api.business.githubcopilot.com",
    "api.enterprise.githubcopilot.com", "copilot-proxy.githubusercontent.com", "api.github.com", "github.com",
    "copilot-telemetry.githubusercontent.com",
)  # fmt: skip
_AKS = "westeurope.oic.prod-aks.azure.com"
ACCOUNT_ISSUER = f"https://{_AKS}/{uuid.UUID(int=0)}/{uuid.UUID(int=7)}/"
"""The cluster's own issuer, of tokens of service accounts."""
_OIDC = "idp.acme.example"
OIDC_ISSUER = f"https://{_OIDC}"
"""Any other issuer of people's tokens."""
OUTSIDE = {**dict.fromkeys(GITHUB_HOSTS, GITHUB), LOGIN: ISSUER, _AKS: ISSUER, _OIDC: ISSUER}
TRUST = "/etc/trust/ca.pem"
_POD_NAMES = {"k8s-app": "kube-dns"}
_NEWS_SECONDS = 1
_NONE: dict[str, str] = {}


class Cluster:
    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-"))
        self.folder.chmod(0o755)
        # emptyDir is in memory.
        self._memory = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-", dir=MEMORY))
        self._memory.chmod(0o755)
        self.network = Network()
        self.public, self.inner = (
            CertificateAuthority("public authority of the tests"),
            CertificateAuthority("cluster's authority"),
        )
        self.key = keys.load_or_create(self.folder / keys.KEY_FILE)
        self.pods: dict[str, Pod] = {}
        self._addresses = 0
        self._starts = 0
        self._processes: list[asyncio.subprocess.Process] = []
        self._services: dict[str, Object] = {}
        self.ways: list[str] = []
        """Rules of the node that come first: ways that a test opens on purpose."""
        self.vault: dict[str, bytes] = {}
        """What is in Key Vault, by name."""
        disks = self.folder / "disks"
        disks.mkdir()
        # What matters here is only that names without dots are looked up below these first.
        search = "search svc.cluster.local cluster.local\noptions ndots:5 timeout:2\n"
        self.node = Node(
            executor=self.network.on_node(),
            lookup=lambda namespace, kind, name: self.objects.get(kind, namespace, name),
            resolvers={"Default": f"nameserver {NODE_DNS}\n", "ClusterFirst": f"nameserver {DNS}\n{search}"},
            trusted=self.public.pem,
            trusted_hash=self.public.hash(self.folder),
            disks=disks,
            csi=self._mount_secrets,
            sign=self._sign,
        )

    # --- the world ------------------------------------------------------------------------------------------------

    async def start_outside(self) -> None:
        """Start what is there before the gateway: the internet, DNS, the certificates."""
        self.certify()
        self._publish_services()
        pair = self.public.sign(*OUTSIDE)
        (self.folder / "internet.crt").write_bytes(pair.certificate)
        (self.folder / "internet.key").write_bytes(pair.key)
        internet = self.network.add("internet", GITHUB, ISSUER)
        resolvers = self.network.add("dns", DNS_POD, NODE_DNS)
        self.write_zones()
        self.update()
        await self._serve(internet, "internet", str(self.folder), GITHUB, ISSUER)
        await self._serve(resolvers, "dns", DNS_POD, str(self.folder / "cluster-zone.json"))
        await self._serve(resolvers, "dns", NODE_DNS, str(self.folder / "node-zone.json"))

    async def _serve(self, host: Host, module: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", host.namespace, sys.executable, "-m", f"tests.pods.{module}", *arguments,
            cwd=image.CHECKOUT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"

    def certify(self) -> None:
        """Do cert-manager's work: a Secret for each Certificate."""
        for one in self.objects.of("Certificate"):
            spec = one["spec"]
            pair = self.inner.sign(*(spec.get("dnsNames") or [spec["commonName"]]))
            self.secret(
                spec["secretName"],
                {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self.inner.pem.encode()},
            )

    def secret(self, name: str, data: dict[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.objects.apply({"kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": encoded})

    def _mount_secrets(self, namespace: str, volume: Object) -> Path:
        """Do the Secrets Store driver's work: files of root with mode 0644, as a SecretProviderClass names them."""
        must_be("csi driver", volume["driver"], "secrets-store.csi.k8s.io")
        name = str(volume["volumeAttributes"]["secretProviderClass"])
        folder = self.folder / "csi" / name
        folder.mkdir(parents=True, exist_ok=True)
        for one in entries_of(self.objects.get("SecretProviderClass", namespace, name)):
            known(f"SecretProviderClass {name}", one, "objectName", "objectType", "objectAlias", "objectEncoding")
            content = self.vault[one["objectName"]]
            is_encoded = one.get("objectEncoding") == "base64"
            (folder / one["objectAlias"]).write_bytes(base64.b64decode(content) if is_encoded else content)
        return folder

    def _sign(self, namespace: str, account: str, audience: str) -> str:
        """Do the API server's work: a token of a service account."""
        subject = {"sub": f"system:serviceaccount:{namespace}:{account}"}
        return keys.mint(
            self.key, issuer=ACCOUNT_ISSUER, audience=audience, user=account, groups=(), now=time.time(), extra=subject
        )

    def _publish_services(self) -> None:
        dns = {
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"selector": _POD_NAMES, "ports": [{"port": 53, "protocol": "UDP"}]},
        }
        self._services[DNS] = dns
        services = [one for one in self.objects.of("Service") if one["spec"].get("clusterIP") != "None"]
        for number, service in enumerate(services, start=20):
            self._services[f"10.96.0.{number}"] = service

    def service_address(self, name: str) -> str:
        return next(ip for ip, one in self._services.items() if one["metadata"]["name"] == name)

    def write_zones(self) -> None:
        """Write what the two resolvers know: the node's the internet, the cluster's also services and rewrites."""
        inside = {
            f"{one['metadata']['name']}.{one['metadata']['namespace']}.svc.cluster.local": ip
            for ip, one in self._services.items()
        }
        custom = [text for one in self.objects.of("ConfigMap") if _is_of_coredns(one) for text in one["data"].values()]
        found = [rule for text in custom for rule in rewrites(text)]
        (self.folder / "node-zone.json").write_text(json.dumps({"names": OUTSIDE, "rewrites": []}))
        (self.folder / "cluster-zone.json").write_text(json.dumps({"names": {**OUTSIDE, **inside}, "rewrites": found}))

    def update(self) -> None:
        """Do kube-proxy's and the network plug-in's work."""
        members = [rules.Member("kube-system", _POD_NAMES, DNS_POD, {}, is_ready=True)]
        members += [
            rules.Member(pod.namespace, pod.labels, pod.host.address, pod.ports, is_ready=pod.is_ready)
            for pod in self.pods.values()
        ]
        namespaces = {
            one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in self.objects.of("Namespace")
        }
        named = {**{one.namespace: _NONE for one in members}, **namespaces}
        kinds = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        policies = [one for kind in kinds for one in self.objects.of(kind)]
        world = rules.World(named, members, self._services, policies, OUTSIDE)
        self.network.enforce(rules.ruleset(world, self.ways, cilium.allowed))

    # --- pods -----------------------------------------------------------------------------------------------------

    def prepare(self, pod: Object) -> Pod:
        """Make a pod with a network of its own and a new address; not started yet."""
        name = pod["metadata"]["name"]
        self._addresses += 1
        self._starts += 1
        host = self.network.add(f"{name}-{self._starts}", f"10.244.1.{self._addresses}")
        place = f"{name}-{self._starts}"
        made = Pod(pod, host, self.node, self.folder / place, self._memory / place, self.update)
        self.pods[name] = made
        self.update()
        return made

    def prepare_gateway(self, ordinal: int) -> Pod:
        return self.prepare(stateful_pod(self.objects.get("StatefulSet", NAMESPACE, "gateway"), ordinal))

    async def remove(self, pod: Pod) -> None:
        """Forget a pod that has ended."""
        del self.pods[pod.name]
        self.network.remove(pod.host)
        self.update()

    async def restart(self) -> list[Pod]:
        """Do what the StatefulSet's controller does for `kubectl rollout restart`: from the last pod to the first."""
        ended = []
        for name in sorted((one for one in self.pods if one.startswith("gateway-")), reverse=True):
            before = self.pods[name]
            # The other parts of the cluster hear a moment later that the pod ends.
            asyncio.get_running_loop().call_later(_NEWS_SECONDS, self.update)
            await before.end()
            await self.remove(before)
            ended.append(before)
            after = self.prepare_gateway(int(name.rpartition("-")[2]))
            await after.start()
            await after.ready()
        return ended

    async def stop(self) -> None:
        for pod in list(self.pods.values()):
            await pod.crash()
        for process in self._processes:
            process.kill()
            await process.wait()
        self.network.close()
        shutil.rmtree(self.folder)
        shutil.rmtree(self._memory)

    # --- what tests say and look at -------------------------------------------------------------------------------

    def seen(self) -> list[dict[str, Any]]:
        """Return what GitHub was asked."""
        path = self.folder / "seen.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def entries_of(provider_class: Object) -> list[Object]:
    """Return what a SecretProviderClass of Azure Key Vault asks for."""
    return [yaml.safe_load(text) for text in yaml.safe_load(provider_class["spec"]["parameters"]["objects"])["array"]]


def vault_entries(objects: Objects) -> list[Object]:
    return [entry for one in objects.of("SecretProviderClass") for entry in entries_of(one)]


def _is_of_coredns(one: Object) -> bool:
    return (one["metadata"]["namespace"], one["metadata"]["name"]) == ("kube-system", "coredns-custom")
