from __future__ import annotations

from pathlib import Path

from extproc.console.configuration import configuration_of
from tests.test_config import PLAIN, POLICY, load

SECRET = "hooks.example/T0/B0/a-secret-path"
SETTINGS = f"""\
{PLAIN}
recording:
  checkpoints:
    witnesses:
      - {{ kind: http, url: "https://{SECRET}" }}
limits: {{ drain_seconds: 7 }}
"""


def test_settings_and_policy_are_shown_without_what_may_be_secret(tmp_path: Path) -> None:
    shown = configuration_of(load(tmp_path, SETTINGS))
    assert "drain_seconds: 7" in shown.settings
    assert "issuer: https://idp.example" in shown.settings
    assert "url: (hidden)" in shown.settings
    assert SECRET not in shown.settings
    assert shown.policy == POLICY
    assert shown.digest == load(tmp_path, SETTINGS).policy.digest
