"""A team's pod in the cluster, and what its programs say: clients that know nothing of the gateway but its settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.pods import image
from tests.pods.cluster import APPS, TRUST, Cluster
from tests.pods.kubelet import Pod
from tests.pods.strict import Object

GATEWAY = "gateway.copilot-gateway.svc.cluster.local"

# Everything is taken from the environment, as in any program that uses the SDK.
_ASK = """
import sys, openai
said = openai.OpenAI(max_retries=0).chat.completions.create(
    model="gpt-5", messages=[{"role": "user", "content": sys.argv[1]}])
print(said.choices[0].message.content)
"""

_REACH = """
import json, socket, sys
def reached(kind, host, port):
    try:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        one.settimeout(1)
        one.connect((host, port))
        if kind == "udp":
            one.send(b"hello")
            return one.recv(9) == b"hello"
        return True
    except OSError:
        return False
    finally:
        one.close()
print(json.dumps([reached(*target) for target in json.loads(sys.argv[1])]))
"""

# As process 1, it gets only signals that it asks for.
_WAIT = "import signal; on = {signal.SIGTERM}; signal.pthread_sigmask(signal.SIG_BLOCK, on); signal.sigwait(on)"
IDLE = [image.PYTHON, "-S", "-c", _WAIT]
"""The command of a container that does nothing until it is to end."""

Target = tuple[str, str, int]
"""tcp or udp, host and port."""


@dataclass(frozen=True)
class Running:
    """A cluster with the gateway in it, and a team's pod."""

    cluster: Cluster
    app: Pod

    def gateways(self) -> list[Pod]:
        return [pod for name, pod in sorted(self.cluster.pods.items()) if name.startswith("gateway-")]


def workload(name: str, namespace: str) -> Object:
    container = {
        "name": "app",
        "image": "team/app",
        "command": IDLE,
        "env": [{"name": "SSL_CERT_FILE", "value": TRUST}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "trust", "mountPath": "/etc/trust"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    volumes = [{"name": "trust", "configMap": {"name": "trust"}}, {"name": "tmp", "emptyDir": {}}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"containers": [container], "volumes": volumes},
    }


async def start(cluster: Cluster, name: str = "app", namespace: str = APPS, authority: str | None = None) -> Pod:
    """Start a team's pod, which trusts the public authorities and the gateway's."""
    inner = authority or cluster.inner.pem
    bundle = {"ca.pem": cluster.public.pem + inner, "gateway.pem": inner}
    metadata = {"name": "trust", "namespace": namespace}
    cluster.objects.apply({"kind": "ConfigMap", "metadata": metadata, "data": bundle})
    pod = cluster.prepare(workload(name, namespace))
    await pod.start()
    await pod.ready()
    return pod


async def ask_by_extproc_run(pod: Pod, question: str, **environ: str) -> tuple[int, str]:
    """Ask in the same way with `extproc run` before it, which signs in with what the container's environment names."""
    command = ["/opt/extproc/bin/extproc", "run", "--", image.PYTHON, "-c", _ASK, question]
    return await pod.execute(pod.mains[0].name, command, PYTHONPATH=image.SOURCES, **environ)


async def python(pod: Pod, program: str, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run a program in a pod's own container, with the environment of that, and more."""
    command = [image.PYTHON, "-c", program, *arguments]
    return await pod.execute(pod.mains[0].name, command, PYTHONPATH=image.SOURCES, **environ)


async def ask(pod: Pod, question: str, **environ: str) -> tuple[int, str]:
    """Ask with the unmodified OpenAI SDK, set up by its environment."""
    return await python(pod, _ASK, question, **environ)


async def reached(pod: Pod, targets: list[Target]) -> list[Target]:
    """Return which of the targets a pod reaches, by trying."""
    code, output = await python(pod, _REACH, json.dumps(targets))
    assert code == 0, output
    return [target for target, is_reached in zip(targets, json.loads(output), strict=True) if is_reached]


_RECORD = """
import json, sys
from pathlib import Path
from extproc.store.sqlite_archive import SqliteArchive
for document in SqliteArchive(Path("/var/lib/extproc/record.db")).exchanges():
    print(json.dumps(document, default=str))
"""


async def recorded(pod: Pod, container: str = "extproc") -> list[dict[str, Any]]:
    """Return what a gateway's pod has in its own store, which is in its state volume."""
    python_path = {"PYTHONPATH": image.SOURCES}
    code, output = await pod.execute(container, [image.PYTHON, "-c", _RECORD], **python_path)
    assert code == 0, output
    return [json.loads(line) for line in output.splitlines()]
