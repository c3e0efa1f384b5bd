"""Runs inside the container, as its user: prints what is there as one JSON object. Standard library only."""

import importlib.util
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

SETTINGS = """\
listen: ["unix:{0}/0.sock"]
operations: 127.0.0.1:19464
policy: policy.yaml
rule_cache: {0}/rules
state: {0}/state
store: {{ sqlite: {0}/record.db }}
issuers: [{{ kind: oidc, issuer: "https://idp.example", audiences: [gateway] }}]
"""
HOME = Path("/opt/extproc")
TOOLS = {"pip", "setuptools", "wheel", "pkg_resources"}


def writable() -> list[str]:
    return [str(path) for path in (Path("/"), Path("/etc"), HOME, *HOME.rglob("*")) if _writable(path)]


def _writable(path: Path) -> bool:
    return not path.is_symlink() and os.access(path, os.W_OK)


def served() -> str:
    folder = Path(tempfile.mkdtemp())
    (folder / "state").mkdir()
    (folder / "policy.yaml").write_text("version: 1\nrules: []\n")
    (folder / "gateway.yaml").write_text(SETTINGS.format(folder))
    process = subprocess.Popen([HOME / "bin/extproc", "serve", "--config", folder / "gateway.yaml"])  # noqa: S603  our program
    end = time.monotonic() + 60
    answer = "none"
    while answer != "200" and process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
        try:
            with urllib.request.urlopen("http://127.0.0.1:19464/readyz") as response:
                answer = str(response.status)
        except (urllib.error.URLError, ConnectionError) as error:
            answer = str(error)
    process.terminate()
    return f"{answer}, {process.wait(30)}"


def version() -> str:
    command = [str(HOME / "bin/envoy"), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  our program


def source_without_byte_code() -> list[str]:
    sources = (HOME / "lib").rglob("*.py")
    cached = {path: Path(importlib.util.cache_from_source(str(path))) for path in sources}
    return [str(path) for path, code in cached.items() if not code.exists() or _checked(code)]


def _checked(code: Path) -> bool:
    """Say whether Python compares byte code with its source before use (PEP 552: the flags are bytes 4 to 7)."""
    with code.open("rb") as file:
        return file.read(8)[4:] != b"\x01\0\0\0"


found = {
    "user": [os.getuid(), os.getgid()],
    "programs": sorted(path.name for path in (HOME / "bin").iterdir()),
    "tools": [str(path) for path in (HOME / "lib").glob("python3.*/site-packages/*") if path.name in TOOLS],
    "writable": writable(),
    "without byte code": source_without_byte_code(),
    "authorities": len(ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt").get_ca_certs()),
    "envoy": version(),
    "materials": {
        one["name"]: one["version"] for one in json.loads((HOME / "sbom.cdx.json").read_text())["components"]
    },
    "served": served(),
}
json.dump(found, sys.stdout)
