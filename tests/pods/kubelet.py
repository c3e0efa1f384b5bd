"""A small, strict kubelet: it runs a pod of the rendered objects on this machine, in a network namespace of its own.

What it does as kubelet does: volumes, environment, init containers in order, native sidecars with their startup probes,
probes, restarts, and termination (preStop of all, then SIGTERM to the main containers, then to the sidecars from the
last to the first, SIGKILL at the end of the grace period). What it leaves out: limits of resources, seccomp, the
images. Anything else that a pod says and that is not known here is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.pods import image, probes
from tests.pods.container import Task
from tests.pods.network import Host
from tests.pods.strict import Object, known
from tests.pods.tasks import Node, checked_container, checked_pod, task_of
from tests.pods.volumes import Lookup, Volumes


@dataclass
class Container:
    spec: Object
    is_sidecar: bool
    process: asyncio.subprocess.Process | None = None
    pid: int = 0
    is_ready: bool = False
    restarts: int = 0
    watchers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Pod:
    """One pod from its start to its end; `changed` is told when it becomes ready or unready."""

    def __init__(
        self, pod: Object, host: Host, node: Node, folder: Path, memory: Path, changed: Callable[[], None]
    ) -> None:
        self.name: str = pod["metadata"]["name"]
        self.labels: dict[str, str] = pod["metadata"].get("labels", {})
        self.namespace: str = pod["metadata"]["namespace"]
        self.spec = checked_pod(pod)
        self.host, self._node, self._pod, self._changed = host, node, pod, changed
        self.folder, self._tasks = folder, 0
        folder.mkdir(parents=True)
        self._lookup: Lookup = partial(node.lookup, self.namespace)
        self.volumes = Volumes(
            pod,
            self._lookup,
            memory=memory,
            disks=node.disks,
            csi=partial(node.csi, self.namespace),
            sign=partial(node.sign, self.namespace, self.spec.get("serviceAccountName", "default")),
        )
        self.inits = [self._container(one) for one in self.spec.get("initContainers", [])]
        self.mains = [self._container(one) for one in self.spec["containers"]]
        self.is_ending = False

    def _container(self, spec: Object) -> Container:
        return Container(checked_container(spec), is_sidecar="restartPolicy" in spec)

    # --- what others look at -------------------------------------------------------------------------------------

    @property
    def lasting(self) -> list[Container]:
        """Return the containers that run as long as the pod: sidecars in order, then the main ones."""
        return [*(one for one in self.inits if one.is_sidecar), *self.mains]

    @property
    def is_ready(self) -> bool:
        return not self.is_ending and all(one.is_running and one.is_ready for one in self.lasting)

    @property
    def ports(self) -> dict[str, int]:
        return {
            port["name"]: port["containerPort"]
            for one in (*self.inits, *self.mains)
            for port in one.spec.get("ports", [])
            if "name" in port
        }

    def container(self, name: str) -> Container:
        return next(one for one in (*self.inits, *self.mains) if one.name == name)

    def disk(self, volume: str) -> Path:
        return self.volumes.folders[volume]

    def log(self, container: str) -> str:
        path = self.folder / f"{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        return "".join(f"--- {self.name} {one.stem}\n{self.log(one.stem)[-3000:]}" for one in self.folder.glob("*.log"))

    # --- start ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the init containers and start the others; not ready yet when this returns."""
        for one in self.inits:
            await self._launch(one)
            if one.is_sidecar:
                if not await self._started(one):
                    raise AssertionError(f"{self.name}: {one.name} did not start:\n{self.logs()}")
            else:
                assert one.process is not None
                code = await one.process.wait()
                assert code == 0, f"{self.name}: {one.name} ended with {code}:\n{self.logs()}"
        for one in self.mains:
            await self._launch(one)
            asyncio.get_running_loop().create_task(self._started(one)).add_done_callback(lambda done: done.result())

    async def ready(self, seconds: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.is_ready:
            assert asyncio.get_running_loop().time() < deadline, f"{self.name} is not ready:\n{self.logs()}"
            await asyncio.sleep(0.05)

    async def _started(self, one: Container) -> bool:
        """Wait for the startup probe, then begin with the others and with restarts."""
        if (startup := self._probe(one, "startupProbe")) is not None and not await probes.passed(startup):
            return False
        self._watch(one)
        return True

    def _watch(self, one: Container) -> None:
        loop = asyncio.get_running_loop()
        one.watchers = [loop.create_task(self._restart(one))]
        if (readiness := self._probe(one, "readinessProbe")) is None:
            self._told(one, is_ready=True)
        else:
            one.watchers.append(loop.create_task(probes.watch(readiness, lambda good: self._told(one, is_ready=good))))
        if (liveness := self._probe(one, "livenessProbe")) is not None:
            one.watchers.append(loop.create_task(probes.watch(liveness, lambda good: None if good else self.kill(one))))

    def _told(self, one: Container, *, is_ready: bool) -> None:
        one.is_ready = is_ready
        self._changed()

    async def _restart(self, one: Container) -> None:
        assert one.process is not None
        await one.process.wait()
        if self.is_ending:
            return
        one.restarts += 1
        for task in one.watchers[1:]:
            task.cancel()
        self._told(one, is_ready=False)
        await asyncio.sleep(1)
        await self._launch(one)
        if not await self._started(one):
            self.kill(one)

    def _probe(self, one: Container, kind: str) -> probes.Probe | None:
        if kind not in one.spec:
            return None

        async def execute(command: list[str]) -> int:
            return (await self.execute(one.name, command))[0]

        what = f"{self.name} {one.name} {kind}"
        return probes.read(what, one.spec[kind], self.ports, self.host.address, self._node.executor, execute)

    async def _launch(self, one: Container) -> None:
        task = task_of(one.spec, self._pod, self.host, self._node, self.volumes.folders)
        task.log = str(self.folder / f"{one.name}.log")
        place = self.folder / "roots" / one.name
        place.mkdir(parents=True, exist_ok=True)
        task.root = str(place)
        one.process = await self._run(task, stdout=asyncio.subprocess.PIPE)
        assert one.process.stdout is not None
        one.pid = 0
        line = await one.process.stdout.readline()
        assert line, f"{self.name}: {one.name} could not be started:\n{self.logs()}"
        one.pid = int(line)

    async def _run(self, task: Task, *, stdout: int) -> asyncio.subprocess.Process:
        self._tasks += 1
        path = task.write(self.folder / f"task-{self._tasks}.json")
        return await asyncio.create_subprocess_exec(
            sys.executable, "-E", "-S", "-m", "tests.pods.container", str(path), cwd=image.CHECKOUT,
            stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=None if task.log else asyncio.subprocess.PIPE,
        )  # fmt: skip

    # --- while it runs -------------------------------------------------------------------------------------------

    async def execute(self, container: str, command: list[str], **environ: str) -> tuple[int, str]:
        """Run a command in a container, as `kubectl exec` does; return its exit code and output."""
        one = self.container(container)
        task = task_of(one.spec, self._pod, self.host, self._node, self.volumes.folders)
        task.argv, task.env, task.join = command, {**task.env, **environ}, one.pid
        running = await self._run(task, stdout=asyncio.subprocess.PIPE)
        try:
            out, err = await running.communicate()
        except asyncio.CancelledError:
            running.kill()
            await running.wait()
            raise
        assert running.returncode is not None
        return running.returncode, (out + err).decode(errors="replace")

    def send(self, one: Container, number: signal.Signals) -> None:
        if one.is_running and one.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, number)

    def kill(self, one: Container) -> None:
        self.send(one, signal.SIGKILL)

    def freeze(self, container: str, *, frozen: bool) -> None:
        """Stop all processes of a container, or let them go on: it is there, and does nothing."""
        inside = Path(f"/proc/{self.container(container).pid}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/pid").readlink() == inside:
                    os.kill(int(process.name), signal.SIGSTOP if frozen else signal.SIGCONT)

    # --- end -----------------------------------------------------------------------------------------------------

    async def end(self) -> float:
        """End the pod as Kubernetes does; return how many seconds that took."""
        begin = self._begin_end()
        deadline = begin + float(self.spec.get("terminationGracePeriodSeconds", 30))
        after: list[asyncio.Task[None]] = []
        everything = []
        # Each sidecar's turn comes when all that started after it have ended.
        for one in reversed(self.lasting):
            ending = asyncio.get_running_loop().create_task(
                self._end(one, deadline, list(after) if one.is_sidecar else [])
            )
            after.append(ending)
            everything.append(ending)
        await asyncio.gather(*everything)
        return asyncio.get_running_loop().time() - begin

    async def crash(self) -> None:
        """Kill everything at once, as a node that fails does."""
        self._begin_end()
        for one in self.lasting:
            self.kill(one)
        await asyncio.gather(*(one.process.wait() for one in self.lasting if one.process is not None))

    def _begin_end(self) -> float:
        self.is_ending = True
        for one in self.lasting:
            for task in one.watchers:
                task.cancel()
        return asyncio.get_running_loop().time()

    async def _end(self, one: Container, deadline: float, before: list[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        if one.process is None:
            return
        try:
            async with asyncio.timeout_at(deadline):
                if "preStop" in one.spec.get("lifecycle", {}):
                    await self._pre_stop(one)
                for other in before:
                    await asyncio.shield(other)
                self.send(one, signal.SIGTERM)
                await one.process.wait()
        except TimeoutError:
            self.kill(one)
            await one.process.wait()
            raise AssertionError(
                f"{self.name}: {one.name} had to be killed at {loop.time():.0f}:\n{self.logs()}"
            ) from None

    async def _pre_stop(self, one: Container) -> None:
        hook = known(f"{one.name}: preStop", one.spec["lifecycle"]["preStop"], "exec", "sleep")
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
            return
        code, output = await self.execute(one.name, hook["exec"]["command"])
        with (self.folder / "pre-stop.log").open("a") as log:
            log.write(f"{hook['exec']['command']} ended with {code}: {output}\n")
