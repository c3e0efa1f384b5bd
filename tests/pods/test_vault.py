"""What `extproc keys make` tells to put into Key Vault is what the manifests take out of it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from tests.needing import not_tested
from tests.pods import gateway
from tests.pods.cluster import vault_entries
from tests.pods.network import run


def test_the_printed_commands_name_the_keys_as_the_manifests_do(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        not_tested("the names of keys in Key Vault: kubectl is missing")
    made = run(
        sys.executable, "-m", "extproc", "keys", "make", "--out", str(tmp_path / "keys"), "--key-vault", "v"
    )  # fmt: skip
    commands = [shlex.split(line) for line in made.splitlines() if line.startswith("az keyvault secret set")]
    named = {words[words.index("--name") + 1] for words in commands}
    entries = vault_entries(gateway.objects())
    assert named == {one["objectName"] for one in entries if one.get("objectEncoding") == "base64"}
