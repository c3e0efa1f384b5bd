"""How a client reaches the gateway: its mode, whose identity, and an empty home of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from extproc.client_settings.settings import Client as Kind
from extproc.client_settings.settings import Mode, settings_for
from extproc.secret import Secret
from tests.clients.product import Product


@dataclass(frozen=True)
class Access:
    """One person at one machine: `home` and `work` are fresh folders, `token` is a JWT of the dev issuer."""

    product: Product
    mode: Mode
    user: str
    home: Path
    work: Path
    token: str = field(repr=False)

    def env(self, kind: Kind, extra: Mapping[str, str]) -> dict[str, str]:
        """Return a client's whole environment: what every program needs, and what `extproc env` prints for it."""
        common = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TMPDIR": str(self.home)}
        settings = settings_for([kind], self.mode, self.product.profile, Secret(self.token), self.product.ca)
        return {**common, **settings.variables, **extra}

    def file(self, name: str, text: str | None = None) -> Path:
        """Return a path in the work folder; with `text`, the file is there."""
        path = self.work / name
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return path


def make_access(product: Product, mode: Mode, user: str) -> Access:
    """Prepare fresh folders; `remove` takes them away."""
    # Without telling names: paths are compared with the policy's globs from each of their folders on.
    base = Path(tempfile.mkdtemp(prefix="client-"))
    home, work = base / "home", base / "work"
    home.mkdir()
    work.mkdir()
    return Access(product, mode, user, home, work, product.token(user))


def remove(access: Access) -> None:
    """Remove the folders; what a client's helpers still write there is no test's concern."""
    shutil.rmtree(access.home.parent, ignore_errors=True)
