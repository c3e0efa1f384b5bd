"""Install the real clients into `.clients/`, each set once per lock file: `python -m tests.clients.install [--quick]`.

Nothing is run at installation (`npm ci --ignore-scripts`, wheels only), and every package is checked against the hash
in its lock file.
"""

# ruff: noqa: T201 - a command that tells what it does
from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CLIENTS = ROOT / ".clients"

_NPM_FILES = ("package.json", "package-lock.json", ".npmrc")
_PYTHON_LOCK = HERE / "requirements.lock"
_DONE = ".complete"


def npm_package(name: str) -> Path | None:
    """Return the folder of an installed npm package, None where it is not installed."""
    candidates = (_npm_folder(quick=quick) / "node_modules" / name for quick in (False, True))
    return next((path for path in candidates if (path.parents[_depth(name)] / _DONE).exists() and path.exists()), None)


def native() -> str:
    """Return how npm names this machine, for example `linux-x64`."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    return f"{sys.platform}-{machine}"


def python() -> Path | None:
    """Return the interpreter of the Python clients that have their own environment, None where there is none."""
    folder = _python_folder()
    return folder / "bin" / "python" if (folder / _DONE).exists() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Install what is missing; exit code 0 also where Node is missing: the tests say what they need."""
    parser = argparse.ArgumentParser(description="Install the real clients that `make test-clients` drives.")
    parser.add_argument("--quick", action="store_true", help="only what the quick subset needs")
    quick = parser.parse_args(arguments).quick
    CLIENTS.mkdir(exist_ok=True)
    (CLIENTS / ".gitignore").write_text("*\n")
    _install_npm(quick=quick)
    if not quick:
        _install_python()
    return 0


def _install_npm(*, quick: bool) -> None:
    folder = _npm_folder(quick=quick)
    if (folder / _DONE).exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: Copilot CLI, the language server and opencode are left out", file=sys.stderr)
        return
    print(f"installing the npm clients into {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _NPM_FILES:
        shutil.copy(HERE / name, folder)
    omitted = ["--omit=dev"] if quick else []
    command = [npm, "ci", "--ignore-scripts", "--loglevel=error", *omitted]
    ended = subprocess.run(command, cwd=folder, check=False)  # noqa: S603
    if ended.returncode == 0:
        (folder / _DONE).touch()
    elif quick:
        # Of the quick subset only Copilot CLI is from there, and it is optional; its tests say that it is missing.
        print("npm could not install Copilot CLI: it is left out", file=sys.stderr)
    else:
        sys.exit("npm could not install the clients")


def _install_python() -> None:
    folder = _python_folder()
    if (folder / _DONE).exists():
        return
    print(f"installing the Python clients into {folder} ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheels = ["--require-hashes", "--only-binary", ":all:", "-r", str(_PYTHON_LOCK)]
    subprocess.run([*pip, *wheels], check=True)  # noqa: S603
    (folder / _DONE).touch()


def _npm_folder(*, quick: bool) -> Path:
    lock = b"".join((HERE / name).read_bytes() for name in _NPM_FILES)
    return CLIENTS / f"npm-{'quick-' if quick else ''}{_short_hash(lock)}"


def _python_folder() -> Path:
    return CLIENTS / f"python-{_short_hash(_PYTHON_LOCK.read_bytes() + sys.version.encode())}"


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _depth(name: str) -> int:
    """Return how many folders lie between a package and the folder that holds `node_modules`."""
    return 1 + name.count("/")


if __name__ == "__main__":
    sys.exit(main())
