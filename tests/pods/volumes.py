"""The volumes of a pod as kubelet makes them.

ConfigMaps, Secrets and projected volumes are folders of the time they were written, to which `..data` leads, a symbolic
link that is replaced in one step; the files beside it are links through `..data` (kubelet's AtomicWriter). An emptyDir
is in memory, a claim is a folder that outlives the pod. `fsGroup` changes group and mode as kubelet's
SetVolumeOwnership does: to everything in a claim as well, unless the folder itself has them already and the policy is
OnRootMismatch.
"""

from __future__ import annotations

import base64
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.pods.strict import Object, known, one_of

Lookup = Callable[[str, str], Object]
"""Kind and name to the object, of the pod's namespace."""

Files = dict[str, tuple[bytes, int]]
"""Content and mode by path."""

_KINDS = ("configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim", "csi", "ephemeral")
_count = itertools.count()


def publish(folder: Path, files: Files, group: int | None) -> None:
    """Put these files into the folder, in place of those before, in one step."""
    stamp = folder / f"..{next(_count)}"
    for path, (content, mode) in files.items():
        file = stamp / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        # With fsGroup, the files of such volumes are readable for the group (0440 is added).
        file.chmod(mode if group is None else mode | 0o440)
        if group is not None:
            os.chown(file, 0, group)
    stamp.chmod(0o755)
    new, data = folder / "..data_tmp", folder / "..data"
    before = data.readlink() if data.is_symlink() else None
    new.symlink_to(stamp.name)
    new.rename(data)
    for name in {path.split("/")[0] for path in files}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    if before is not None:
        for gone in {one.name for one in (folder / before).iterdir()} - {path.split("/")[0] for path in files}:
            (folder / gone).unlink()
        shutil.rmtree(folder / before)


def _data(source: Object) -> dict[str, bytes]:
    if source["kind"] == "Secret":
        plain = {name: text.encode() for name, text in source.get("stringData", {}).items()}
        return {**{name: base64.b64decode(text) for name, text in source.get("data", {}).items()}, **plain}
    binary = {name: base64.b64decode(text) for name, text in source.get("binaryData", {}).items()}
    return {**{name: text.encode() for name, text in source.get("data", {}).items()}, **binary}


def _files(what: str, source: Object, kind: str, lookup: Lookup, mode: int) -> Files:
    name = source["secretName"] if "secretName" in source else source["name"]
    known(what, source, "name", "secretName", "items", "defaultMode", "optional")
    try:
        data = _data(lookup(kind, name))
    except KeyError:
        if source.get("optional"):
            return {}
        raise
    if "items" not in source:
        return {key: (content, mode) for key, content in data.items()}
    items = [known(what, item, "key", "path", "mode") for item in source["items"]]
    return {item["path"]: (data[item["key"]], item.get("mode", mode)) for item in items}


def _projected(what: str, source: Object, lookup: Lookup, sign: Callable[[str], str]) -> Files:
    known(what, source, "sources", "defaultMode")
    files: Files = {}
    for one in source["sources"]:
        kind = one_of(what, one, ("configMap", "secret", "serviceAccountToken"))
        if kind == "serviceAccountToken":
            token = known(what, one[kind], "audience", "expirationSeconds", "path")
            files[token["path"]] = (sign(token["audience"]).encode(), source.get("defaultMode", 0o644))
            continue
        object_kind = "ConfigMap" if kind == "configMap" else "Secret"
        files |= _files(what, one[kind], object_kind, lookup, source.get("defaultMode", 0o644))
    return files


class Volumes:
    """The volumes of one pod.

    `memory` is a folder in memory, `disks` has the claims and is kept, `csi` mounts secrets, `sign` makes a token of
    the pod's service account for an audience.
    """

    def __init__(
        self,
        pod: Object,
        lookup: Lookup,
        *,
        memory: Path,
        disks: Path,
        csi: Callable[[Object], Path],
        sign: Callable[[str], str],
    ) -> None:
        self._sign = sign
        self._spec = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        security = pod["spec"].get("securityContext", {})
        self._group: int | None = security.get("fsGroup")
        self._only_on_mismatch = security.get("fsGroupChangePolicy") == "OnRootMismatch"
        self._pod, self._lookup = pod["metadata"]["name"], lookup
        self._memory, self._disks, self._csi = memory, disks, csi
        self.folders = {name: self._make(name, volume) for name, volume in self._spec.items()}

    def refresh(self) -> None:
        """Write what is in ConfigMaps and Secrets now."""
        for name, volume in self._spec.items():
            if (files := self._content(name, volume)) is not None:
                publish(self.folders[name], files, self._group)

    def _content(self, name: str, volume: Object) -> Files | None:
        known(f"volume {name}", volume, "name", *_KINDS)
        kind = one_of(f"volume {name}", volume, _KINDS)
        source = volume[kind]
        match kind:
            case "configMap":
                return _files(name, source, "ConfigMap", self._lookup, source.get("defaultMode", 0o644))
            case "secret":
                return _files(name, source, "Secret", self._lookup, source.get("defaultMode", 0o644))
            case "projected":
                return _projected(name, source, self._lookup, self._sign)
        return None

    def _make(self, name: str, volume: Object) -> Path:
        if (files := self._content(name, volume)) is not None:
            folder = self._memory / name
            folder.mkdir(parents=True)
            publish(folder, files, self._group)
            return folder
        if "csi" in volume:
            # Its driver asks for no change of owner: fsGroup is nothing to it.
            return self._csi(known(name, volume["csi"], "driver", "readOnly", "volumeAttributes"))
        if "emptyDir" in volume:
            known(name, volume["emptyDir"], "medium", "sizeLimit")
            folder = self._memory / name
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        elif "ephemeral" in volume:
            known(name, volume["ephemeral"], "volumeClaimTemplate")
            folder = self._memory / name
            folder.mkdir(parents=True)
        else:
            claim = known(name, volume["persistentVolumeClaim"], "claimName", "readOnly")["claimName"]
            folder = self._disks / claim
            folder.mkdir(exist_ok=True)  # root's, as the root of a new file system is
        if self._group is not None:
            self._own(folder, self._group)
        return folder

    def _own(self, folder: Path, group: int) -> None:
        is_right = folder.stat().st_gid == group and folder.stat().st_mode & 0o2070 == 0o2070
        if self._only_on_mismatch and is_right:
            return
        for path in [*folder.rglob("*"), folder]:
            more = 0o2770 if path.is_dir() else 0o660
            if path.is_symlink():
                continue
            mode = path.stat().st_mode & 0o7777
            os.chown(path, -1, group)
            path.chmod(mode | more)
